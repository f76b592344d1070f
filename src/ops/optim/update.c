/* Optimizer steps of many parameters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/support/apart.h"
#include "ops/support/quantizer.h"

static bool check_shape(const UpdateEntry *entry, const Tensor *other, const char *name, int position) {
  const Tensor *parameter = entry->parameter;
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(parameter, other)) return false;
  if (tensor_same_shape(parameter, other)) return true;
  return error_set("parameter %d has shape %s, its %s %s", position, tensor_shape_text(parameter, first), name,
                   tensor_shape_text(other, second));
}

/* `state` may be NULL. */
static bool check_state(const UpdateEntry *entry, const Tensor *state, DType dtype, const char *name, int position) {
  if (!state) return true;
  if (!check_shape(entry, state, name, position)) return false;
  if (state->dtype == dtype && tensor_is_contiguous(state)) return true;
  return error_set("the %s of parameter %d must be a contiguous %s tensor", name, position, dtype_name(dtype));
}

/* `scale` is NULL of one in f32. */
static bool check_moment(const UpdateEntry *entry, const Tensor *moment, const Tensor *scale, const Quantizer *format,
                         const char *name, int position) {
  if (!scale) return check_state(entry, moment, DTYPE_F32, name, position);
  if (!moment) return error_set("parameter %d has a scale of a %s, but none of these", position, name);
  if (format->blocksize == 0) return error_set("the %s of parameter %d has a scale, but no format", name, position);
  if (!check_state(entry, moment, format->format, name, position) ||
      !check_scale(scale, moment, divide_up(tensor_count(moment), format->blocksize))) {
    return false;
  }
  return tensor_is_contiguous(scale) ||
         error_set("the scale of the %s of parameter %d must be contiguous", name, position);
}

static bool check_entry(const Update *update, const UpdateEntry *entry, int position) {
  const Tensor *parameter = entry->parameter, *grad = entry->grad;
  if (!parameter || !grad) return error_set("parameter %d is missing, or its gradient", position);
  char name[32];
  snprintf(name, sizeof name, "parameter %d", position);
  if (!check_compute_float(parameter->dtype, name)) return false;
  if (!tensor_is_contiguous(parameter)) return error_set("parameter %d must be contiguous", position);
  if (!same_device(update->list[0].parameter, parameter) || !check_shape(entry, grad, "gradient", position)) {
    return false;
  }
  if (grad->dtype != parameter->dtype) {
    return error_set("parameter %d is %s, its gradient %s", position, dtype_name(parameter->dtype),
                     dtype_name(grad->dtype));
  }
  bool needs_first = update->rule != UPDATE_SGD || update->step.beta1 != 0;
  bool has_moments = (entry->first || !needs_first) && !entry->second == !rule_has_second(update->rule);
  if (!has_moments) return error_set("parameter %d does not have the moments that its optimizer needs", position);
  if (entry->second && !entry->first_scale != !entry->second_scale) {
    return error_set("parameter %d has one moment of 8 bits and one of 32", position);
  }
  if (entry->master && parameter->dtype == DTYPE_F32) {
    return error_set("parameter %d is f32 and needs no master", position);
  }
  if (entry->master && update->step.stochastic != 0) {
    return error_set("parameter %d has a master, and can't be rounded stochastically", position);
  }
  return check_moment(entry, entry->first, entry->first_scale, &update->first_format, "first moment", position) &&
         check_moment(entry, entry->second, entry->second_scale, &update->second_format, "second moment", position) &&
         check_state(entry, entry->master, DTYPE_F32, "master", position);
}

enum { WRITTEN = 6 };

/* Lists what a step writes of a parameter; NULL for what there is not. */
static void list_written(const UpdateEntry *entry, Tensor *written[WRITTEN]) {
  Tensor *const list[WRITTEN] = {entry->parameter,   entry->first,        entry->second,
                                 entry->first_scale, entry->second_scale, entry->master};
  memcpy(written, list, sizeof list);
}

static bool check_entries_apart(const Update *update) {
  Extent *extent = host_allocate_zeroed((size_t)update->count * (WRITTEN + 1), sizeof *extent);
  if (!extent) return false;
  int count = 0;
  for (int i = 0; i < update->count; i++) {
    const UpdateEntry *entry = &update->list[i];
    Tensor *written[WRITTEN];
    list_written(entry, written);
    for (int k = 0; k < WRITTEN; k++) {
      if (written[k]) extent[count++] = extent_of(written[k], true);
    }
    /* Other gradients are read from copies. */
    if (tensor_is_contiguous(entry->grad)) extent[count++] = extent_of(entry->grad, false);
  }
  bool apart = check_apart(extent, count);
  free(extent);
  return apart;
}

static bool check_format(const QuantizeOptions *format) {
  int64_t length = format->blocks.length;
  if (format->format.small) return error_set("8-bit moments have no format '%s'", format->format.small->name);
  if (format->stochastic || format->scale_rounding != SCALE_EXACT || format->headroom > 0 ||
      format->constant_scale > 0 || fit_is_wanted(&format->fit)) {
    return error_set("8-bit moments are rounded to nearest, and their scales are exact");
  }
  if (length >= BLOCK_LEAST && length <= BLOCK_MOST && (length & (length - 1)) == 0) return true;
  return error_set("blocks of 8-bit moments must be a power of two from %d to %d elements long", BLOCK_LEAST,
                   BLOCK_MOST);
}

/* Gives an update of at least one parameter the formats of its batch. */
static bool make_formats(Update *update, const UpdateBatch *batch) {
  const Tensor *any = update->list[0].parameter;
  if (!batch->coded) return true;
  if (!check_format(&batch->first) || !check_format(&batch->second) ||
      !make_quantizer(&update->first_format, any, &batch->first) ||
      !make_quantizer(&update->second_format, any, &batch->second)) {
    return false;
  }
  if (update->first_format.blocksize != update->second_format.blocksize) {
    return error_set("blocks of 8-bit moments must have one length");
  }
  return smallest_number(&update->second_format) > 0 || error_set("a map of second moments must have a number above 0");
}

static bool check_batch(const UpdateBatch *batch) {
  Update update = batch->update;
  if (update.count == 0) return true;
  if (!make_formats(&update, batch)) return false;
  for (int i = 0; i < update.count; i++) {
    if (!check_entry(&update, &update.list[i], i + 1)) return false;
  }
  if (update.live && (!same_device(update.list[0].parameter, update.live) || !op_check_live(update.live))) return false;
  return check_entries_apart(&update);
}

/* Makes the gradients of *update contiguous, one in each of `grads`, in a list of its own, and says which words each
 * parameter takes. */
static bool make_ready(Update *update, UpdateEntry *list, Tensor *grads) {
  int64_t words = 0;
  for (int i = 0; i < update->count; i++) {
    list[i] = update->list[i];
    list[i].first_word = words;
    words += parameter_words(list[i].parameter);
    if (!op_contiguous(&grads[i], list[i].grad)) return false;
    list[i].grad = &grads[i];
  }
  update->list = list;
  return true;
}

static bool update_all(const UpdateBatch *batch, int count) {
  for (int i = 0; i < count; i++) {
    Update update = batch[i].update;
    if (update.count == 0) continue;
    /* Again: of more maps than are kept, the first may be gone. */
    if (!make_formats(&update, &batch[i])) return false;
    if (!update.live) op_draw_step(&update.step, op_update_words(update.list, update.count));
    if (!backend_for(update.list[0].parameter)->update(&update)) return false;
    for (int k = 0; k < update.count; k++) {
      Tensor *written[WRITTEN];
      list_written(&update.list[k], written);
      for (int j = 0; j < WRITTEN; j++) {
        if (written[j]) tensor_changed(written[j]);
      }
    }
  }
  return true;
}

bool op_update(const UpdateBatch *batches, int count) {
  int entries = 0, first = 0;
  for (int i = 0; i < count; i++) {
    if (!check_batch(&batches[i])) return false;
    entries += batches[i].update.count;
  }
  UpdateBatch *ready = host_allocate_zeroed((size_t)count, sizeof *ready);
  UpdateEntry *list = host_allocate_zeroed((size_t)entries, sizeof *list);
  Tensor *grads = host_allocate_zeroed((size_t)entries, sizeof *grads);
  bool done = ready && list && grads;
  for (int i = 0; i < count && done; i++) {
    ready[i] = batches[i];
    done = make_ready(&ready[i].update, list + first, grads + first);
    first += batches[i].update.count;
  }
  done = done && update_all(ready, count);
  for (int i = 0; grads && i < entries; i++) tensor_release(&grads[i]);
  free(grads);
  free(list);
  free(ready);
  return done;
}
