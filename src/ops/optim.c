/* Optimizer steps of many parameters, and the norm of their gradients. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/support/support.h"

/* --- memory that tensors share --- */

/* The bytes of a contiguous tensor. */
typedef struct Range {
  const char *begin, *end;
  bool written;
} Range;

static Range range_of(const Tensor *tensor, bool written) {
  int64_t bytes = dtype_size(tensor->dtype);
  const char *data = tensor->storage->data;
  if (!data) return (Range){.written = written};
  const char *begin = data + tensor->offset * bytes;
  return (Range){begin, begin + tensor_count(tensor) * bytes, written};
}

static int compare_begins(const void *a, const void *b) {
  const Range *first = a, *second = b;
  return (first->begin > second->begin) - (first->begin < second->begin);
}

/* Fails if two ranges have bytes in common of which one is written. Sorts the ranges. */
static bool check_apart(Range *range, int count) {
  const char *end = NULL, *written_end = NULL;
  qsort(range, (size_t)count, sizeof *range, compare_begins);
  for (int i = 0; i < count; i++) {
    if (range[i].begin == range[i].end) continue;
    if (range[i].begin < written_end || (range[i].written && range[i].begin < end)) {
      return error_set("two of its tensors share memory");
    }
    if (range[i].end > end) end = range[i].end;
    if (range[i].written && range[i].end > written_end) written_end = range[i].end;
  }
  return true;
}

/* --- steps --- */

/* Derived numbers are worked out in double: 1 - beta2 in float32 would be off by 1e-5 of itself. */
static UpdateStep sgd_step(const UpdateSettings *settings) {
  /* The first gradient enters the buffer as it is. */
  bool whole = settings->momentum == 0 || settings->step == 1;
  return (UpdateStep){.rate = (float)settings->lr,
                      .beta1 = (float)settings->momentum,
                      .fraction1 = whole ? 1.0f : (float)(1 - settings->dampening),
                      .nesterov = settings->nesterov};
}

static UpdateStep adamw_step(const UpdateSettings *settings) {
  double beta1 = settings->beta1, beta2 = settings->beta2;
  return (UpdateStep){.rate = (float)(settings->lr / (1 - pow(beta1, settings->step))),
                      .beta1 = (float)beta1,
                      .fraction1 = (float)(1 - beta1),
                      .beta2 = (float)beta2,
                      .fraction2 = (float)(1 - beta2),
                      .root_scale = (float)(1 / sqrt(1 - pow(beta2, settings->step))),
                      .epsilon = (float)settings->epsilon};
}

/* The paper corrects the betas instead of the moments: beta (1 - beta^(t - 1)) / (1 - beta^t). */
static UpdateStep stable_adamw_step(const UpdateSettings *settings) {
  double part1 = (1 - settings->beta1) / (1 - pow(settings->beta1, settings->step));
  double part2 = (1 - settings->beta2) / (1 - pow(settings->beta2, settings->step));
  return (UpdateStep){.rate = (float)settings->lr,
                      .beta1 = (float)(1 - part1),
                      .fraction1 = (float)part1,
                      .beta2 = (float)(1 - part2),
                      .fraction2 = (float)part2,
                      .root_scale = 1,
                      .epsilon = (float)settings->epsilon};
}

static UpdateStep step_of_rule(UpdateRule rule, const UpdateSettings *settings) {
  switch (rule) {
  case UPDATE_SGD:
    return sgd_step(settings);
  case UPDATE_ADAMW:
    return adamw_step(settings);
  case UPDATE_STABLE_ADAMW:
    return stable_adamw_step(settings);
  }
  trap_missing_case();
}

UpdateStep op_update_step(UpdateRule rule, const UpdateSettings *settings) {
  UpdateStep step = step_of_rule(rule, settings);
  step.lr = (float)settings->lr;
  step.weight_decay = (float)settings->weight_decay;
  return step;
}

enum { ENTRY_TENSORS = 5 };

static bool check_shape(const UpdateEntry *entry, const Tensor *other, const char *name, int position) {
  const Tensor *parameter = entry->parameter;
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(parameter, other)) return false;
  if (tensor_same_shape(parameter, other)) return true;
  return error_set("parameter %d has shape %s, its %s %s", position, tensor_shape_text(parameter, first), name,
                   tensor_shape_text(other, second));
}

/* `state` may be NULL. */
static bool check_state(const UpdateEntry *entry, const Tensor *state, const char *name, int position) {
  if (!state) return true;
  if (!check_shape(entry, state, name, position)) return false;
  if (state->dtype == DTYPE_F32 && tensor_is_contiguous(state)) return true;
  return error_set("the %s of parameter %d must be a contiguous f32 tensor", name, position);
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
  bool has_moments = update->rule == UPDATE_SGD ? !entry->second && (update->step.beta1 == 0 || entry->first)
                                                : entry->first && entry->second;
  if (!has_moments) return error_set("parameter %d does not have the moments that its optimizer needs", position);
  if (entry->master && parameter->dtype == DTYPE_F32) {
    return error_set("parameter %d is f32 and needs no master", position);
  }
  return check_state(entry, entry->first, "first moment", position) &&
         check_state(entry, entry->second, "second moment", position) &&
         check_state(entry, entry->master, "master", position);
}

static bool check_live(const Tensor *live) {
  if (live->dtype == DTYPE_F32 && tensor_is_contiguous(live) && tensor_count(live) == UPDATE_FIELDS) return true;
  return error_set("a live step must be a contiguous f32 tensor of %d numbers", UPDATE_FIELDS);
}

static bool check_entries_apart(const Update *update) {
  Range *range = host_allocate_zeroed((size_t)update->count * ENTRY_TENSORS, sizeof *range);
  if (!range) return false;
  int count = 0;
  for (int i = 0; i < update->count; i++) {
    const UpdateEntry *entry = &update->list[i];
    const Tensor *written[] = {entry->parameter, entry->first, entry->second, entry->master};
    for (int k = 0; k < ENTRY_TENSORS - 1; k++) {
      if (written[k]) range[count++] = range_of(written[k], true);
    }
    /* Other gradients are read from copies. */
    if (tensor_is_contiguous(entry->grad)) range[count++] = range_of(entry->grad, false);
  }
  bool apart = check_apart(range, count);
  free(range);
  return apart;
}

static bool check_update(const Update *update) {
  for (int i = 0; i < update->count; i++) {
    if (!check_entry(update, &update->list[i], i + 1)) return false;
  }
  if (update->live && update->count > 0 &&
      (!same_device(update->list[0].parameter, update->live) || !check_live(update->live))) {
    return false;
  }
  return check_entries_apart(update);
}

static void count_change(Tensor *tensor) {
  if (tensor) tensor_changed(tensor);
}

/* Makes the gradients of *update contiguous, one in each of `grads`, in a list of its own. */
static bool make_contiguous(Update *update, UpdateEntry *list, Tensor *grads) {
  for (int i = 0; i < update->count; i++) {
    list[i] = update->list[i];
    if (!op_contiguous(&grads[i], list[i].grad)) return false;
    list[i].grad = &grads[i];
  }
  update->list = list;
  return true;
}

static bool update_all(const Update *update, int count) {
  for (int i = 0; i < count; i++) {
    if (update[i].count == 0) continue;
    if (!backend_for(update[i].list[0].parameter)->update(&update[i])) return false;
    for (int k = 0; k < update[i].count; k++) {
      const UpdateEntry *entry = &update[i].list[k];
      count_change(entry->parameter);
      count_change(entry->first);
      count_change(entry->second);
      count_change(entry->master);
    }
  }
  return true;
}

bool op_update(const Update *updates, int count) {
  int entries = 0, first = 0;
  for (int i = 0; i < count; i++) {
    if (!check_update(&updates[i])) return false;
    entries += updates[i].count;
  }
  Update *ready = host_allocate_zeroed((size_t)count, sizeof *ready);
  UpdateEntry *list = host_allocate_zeroed((size_t)entries, sizeof *list);
  Tensor *grads = host_allocate_zeroed((size_t)entries, sizeof *grads);
  bool done = ready && list && grads;
  for (int i = 0; i < count && done; i++) {
    ready[i] = updates[i];
    done = make_contiguous(&ready[i], list + first, grads + first);
    first += updates[i].count;
  }
  done = done && update_all(ready, count);
  for (int i = 0; grads && i < entries; i++) tensor_release(&grads[i]);
  free(grads);
  free(list);
  free(ready);
  return done;
}

bool op_store_step(Tensor *live, const UpdateStep *step) {
  if (!check_live(live) || !backend_for(live)->store_fields(live, (const float *)step)) return false;
  tensor_changed(live);
  return true;
}

/* --- norms --- */

static bool check_scalable(Tensor *const *list, int count) {
  Range *range = host_allocate_zeroed((size_t)count, sizeof *range);
  if (!range) return false;
  bool right = true;
  int ranges = 0;
  for (int i = 0; right && i < count; i++) {
    right = same_device(list[0], list[i]) && check_writable(list[i]);
    char name[32];
    snprintf(name, sizeof name, "gradient %d", i + 1);
    right = right && check_compute_float(list[i]->dtype, name);
    if (right && tensor_is_contiguous(list[i])) range[ranges++] = range_of(list[i], true);
  }
  right = right && check_apart(range, ranges);
  free(range);
  return right;
}

/* `contiguous` has room for a view or a copy of each, and `ready` for a pointer to it. */
static bool clip(Tensor *norm, Tensor *const *list, int count, double largest, Tensor *contiguous, Tensor **ready) {
  for (int i = 0; i < count; i++) {
    if (!op_contiguous(&contiguous[i], list[i])) return false;
    ready[i] = &contiguous[i];
  }
  const Backend *backend = backend_for(norm);
  if (!backend->clip_norm(norm, ready, count, (float)largest)) return false;
  bool done = true;
  for (int i = 0; i < count; i++) {
    if (contiguous[i].storage != list[i]->storage) done = backend->copy(list[i], &contiguous[i], true) && done;
    tensor_changed(list[i]);
  }
  return done;
}

bool op_clip_norm(Tensor *norm, Tensor *const *list, int count, double largest) {
  if (count == 0) return error_set("a list of at least one gradient is needed");
  if (!(largest >= 0)) return error_set("the largest norm must be a number of at least 0, got %g", largest);
  Tensor created = {0};
  if (!check_scalable(list, count) || !tensor_create(&created, DTYPE_F32, tensor_device(list[0]), 0, NULL)) {
    return false;
  }
  Tensor *contiguous = host_allocate_zeroed((size_t)count, sizeof *contiguous);
  Tensor **ready = contiguous ? host_allocate_zeroed((size_t)count, sizeof *ready) : NULL;
  bool done = ready && clip(&created, list, count, largest, contiguous, ready);
  for (int i = 0; contiguous && i < count; i++) tensor_release(&contiguous[i]);
  free(ready);
  free(contiguous);
  return hand_over(norm, &created, done);
}
