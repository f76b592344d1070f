/* The cross-entropy loss. */
#include <math.h>

#include "ops/support/quantizer.h"

static bool check_weight(const Tensor *logits, const Tensor *weight) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!weight) return true;
  if (!same_device(logits, weight)) return false;
  if (weight->dtype == DTYPE_F32 && weight->rank == 1 && weight->size[0] == logits->size[1]) return true;
  return error_set("f32 weights of shape (%lld), one a class, are needed, got %s %s", (long long)logits->size[1],
                   dtype_name(weight->dtype), tensor_shape_text(weight, text));
}

static bool check_rows(const CrossEntropy *rows) {
  const Tensor *logits = rows->logits, *target = rows->target;
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!check_float(logits) || !same_device(logits, target)) return false;
  if (!dtype_is_integer(target->dtype)) return error_set("targets must be integers, got %s", dtype_name(target->dtype));
  if (logits->rank != 2 || target->rank != 1 || logits->size[0] != target->size[0] || logits->size[1] == 0) {
    return error_set("logits (n, classes) and targets (n) are needed, got shapes %s and %s",
                     tensor_shape_text(logits, first), tensor_shape_text(target, second));
  }
  if (!(rows->smoothing >= 0 && rows->smoothing <= 1)) {
    return error_set("label smoothing must be from 0 to 1, got %g", (double)rows->smoothing);
  }
  return check_weight(logits, rows->weight);
}

static bool check_dloss(const CrossEntropy *rows, const Tensor *dloss) {
  if (!same_device(rows->logits, dloss)) return false;
  if (dloss->dtype == DTYPE_F32 && tensor_same_shape(dloss, rows->target)) return true;
  return error_set("the loss's gradient must be f32 and have the targets' shape");
}

/* The same rows, their tensors contiguous. */
typedef struct ContiguousRows {
  CrossEntropy rows;
  Tensor logits, target, weight;
} ContiguousRows;

static bool make_contiguous(ContiguousRows *made, const CrossEntropy *rows) {
  *made = (ContiguousRows){.rows = *rows};
  made->rows.logits = &made->logits;
  made->rows.target = &made->target;
  if (rows->weight) made->rows.weight = &made->weight;
  return op_contiguous(&made->logits, rows->logits) && op_contiguous(&made->target, rows->target) &&
         (!rows->weight || op_contiguous(&made->weight, rows->weight));
}

static void release_rows(ContiguousRows *made) {
  tensor_release(&made->logits);
  tensor_release(&made->target);
  tensor_release(&made->weight);
}

bool op_cross_entropy(Tensor *out, Tensor *statistics, const CrossEntropy *rows) {
  if (!check_rows(rows)) return false;
  ContiguousRows input;
  Tensor losses = {0}, created = {0};
  int64_t size[2] = {rows->logits->size[0], 2};
  bool done = make_contiguous(&input, rows) && tensor_create_like(&losses, rows->target, DTYPE_F32) &&
              tensor_create(&created, DTYPE_F32, tensor_device(rows->logits), 2, size) &&
              backend_for(rows->logits)->cross_entropy(&losses, &created, &input.rows);
  release_rows(&input);
  hand_over(statistics, &created, done);
  return hand_over(out, &losses, done);
}

bool op_cross_entropy_backward(Tensor *out, const CrossEntropy *rows, const Tensor *statistics, const Tensor *dloss) {
  const Tensor *logits = rows->logits;
  if (!check_rows(rows) || !check_dloss(rows, dloss) || !same_device(logits, statistics)) return false;
  bool fits = statistics->dtype == DTYPE_F32 && statistics->rank == 2 && tensor_is_contiguous(statistics);
  if (!fits || statistics->size[0] != logits->size[0] || statistics->size[1] != 2) {
    return error_set("the statistics must be f32 of shape (%lld, 2)", (long long)logits->size[0]);
  }
  ContiguousRows input;
  Tensor created = {0};
  bool done = make_contiguous(&input, rows) && tensor_create_like(&created, logits, logits->dtype) &&
              backend_for(logits)->cross_entropy_backward(&created, &input.rows, statistics, dloss);
  release_rows(&input);
  return hand_over(out, &created, done);
}

bool op_cross_entropy_gradient(Tensor *out, Tensor *gradient, const CrossEntropy *rows, const Tensor *dloss) {
  if (!check_rows(rows) || !check_dloss(rows, dloss)) return false;
  ContiguousRows input;
  Tensor losses = {0}, created = {0};
  bool done = make_contiguous(&input, rows) && tensor_create_like(&losses, rows->target, DTYPE_F32) &&
              tensor_create_like(&created, rows->logits, rows->logits->dtype) &&
              backend_for(rows->logits)->cross_entropy_gradient(&losses, &created, &input.rows, dloss);
  release_rows(&input);
  hand_over(gradient, &created, done);
  return hand_over(out, &losses, done);
}

bool op_cross_entropy_gradient_in_place(Tensor *out, Tensor *logits, const CrossEntropy *rows, const Tensor *dloss) {
  if (!check_rows(rows) || !check_dloss(rows, dloss)) return false;
  if (!tensor_is_contiguous(logits)) return error_set("logits that become their gradient must be contiguous");
  if (overlaps_partly(logits, dloss) || (rows->weight && overlaps_partly(logits, rows->weight))) {
    return error_set("logits that become their gradient must share no memory with what it is computed from");
  }
  ContiguousRows input;
  Tensor losses = {0};
  bool done = make_contiguous(&input, rows) && tensor_create_like(&losses, rows->target, DTYPE_F32);
  if (done) tensor_changing(logits); /* before the backend may note something with the gradient */
  done = done && backend_for(logits)->cross_entropy_gradient(&losses, logits, &input.rows, dloss);
  release_rows(&input);
  return hand_over(out, &losses, done);
}

/* In several steps, for devices and tensors without a kernel for all of them: the logits become their gradient. */
static bool quantize_separately(Tensor *out, const QuantizeOutputs *outputs, Tensor *logits, const CrossEntropy *rows,
                                const Tensor *dloss, const QuantizeOptions *options, const HistoryChange *history) {
  Tensor losses = {0};
  bool done = op_cross_entropy_gradient_in_place(&losses, logits, rows, dloss) &&
              quantize_by_history(outputs, logits, options, history);
  return hand_over(out, &losses, done);
}

bool op_quantize_cross_entropy(Tensor *out, const QuantizeOutputs *outputs, Tensor *logits, const CrossEntropy *rows,
                               const Tensor *dloss, const QuantizeOptions *options, const HistoryChange *history) {
  const Backend *backend = backend_for(logits);
  Quantizer quantizer;
  QuantizeOutputs targets;
  if (!check_rows(rows) || !check_dloss(rows, dloss) || !check_quantize_made(outputs, logits, options, history) ||
      !make_quantizer(&quantizer, logits, options)) {
    return false;
  }
  if (quantizer.rule.fitted || !backend->quantizes_cross_entropy ||
      !backend->quantizes_cross_entropy(outputs, rows, &quantizer)) {
    return quantize_separately(out, outputs, logits, rows, dloss, options, history);
  }
  ContiguousRows input;
  Tensor losses = {0}, created[QUANTIZE_OUTPUTS] = {{0}};
  HistoryRecord record = history_record(history->record, logits);
  bool done =
      make_contiguous(&input, rows) && tensor_create_like(&losses, rows->target, DTYPE_F32) &&
      create_quantize_outputs(created, &targets, outputs, logits, &quantizer, options) &&
      backend->quantize_cross_entropy(&losses, &targets, &input.rows, dloss, &quantizer, history->tensor, record);
  release_rows(&input);
  if (done && history->tensor && record != HISTORY_KEEP) tensor_changed(history->tensor);
  hand_over_quantized(outputs, created, done);
  return hand_over(out, &losses, done);
}
