/* The cross-entropy loss. */
#include "ops/support/support.h"

static bool check_cross_entropy(const Tensor *logits, const Tensor *target) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!check_float(logits) || !same_device(logits, target)) return false;
  if (!dtype_is_integer(target->dtype)) return error_set("targets must be integers, got %s", dtype_name(target->dtype));
  if (logits->rank != 2 || target->rank != 1 || logits->size[0] != target->size[0] || logits->size[1] == 0) {
    return error_set("logits (n, classes) and targets (n) are needed, got shapes %s and %s",
                     tensor_shape_text(logits, first), tensor_shape_text(target, second));
  }
  return true;
}

bool op_cross_entropy(Tensor *out, Tensor *statistics, const Tensor *logits, const Tensor *target) {
  if (!check_cross_entropy(logits, target)) return false;
  Tensor input = {0}, labels = {0}, losses = {0}, created = {0};
  int64_t size[2] = {logits->size[0], 2};
  bool done = op_contiguous(&input, logits) && op_contiguous(&labels, target) &&
              tensor_create_like(&losses, target, DTYPE_F32) &&
              tensor_create(&created, DTYPE_F32, tensor_device(logits), 2, size) &&
              backend_for(logits)->cross_entropy(&losses, &created, &input, &labels);
  tensor_release(&input);
  tensor_release(&labels);
  hand_over(statistics, &created, done);
  return hand_over(out, &losses, done);
}

bool op_cross_entropy_backward(Tensor *out, const Tensor *logits, const Tensor *target, const Tensor *statistics,
                               const Tensor *dloss) {
  if (!check_cross_entropy(logits, target) || !same_device(logits, dloss) || !same_device(logits, statistics)) {
    return false;
  }
  if (dloss->dtype != DTYPE_F32 || !tensor_same_shape(dloss, target)) {
    return error_set("the loss's gradient must be f32 and have the targets' shape");
  }
  bool fits = statistics->dtype == DTYPE_F32 && statistics->rank == 2 && tensor_is_contiguous(statistics);
  if (!fits || statistics->size[0] != logits->size[0] || statistics->size[1] != 2) {
    return error_set("the statistics must be f32 of shape (%lld, 2)", (long long)logits->size[0]);
  }
  Tensor input = {0}, labels = {0}, created = {0};
  bool done = op_contiguous(&input, logits) && op_contiguous(&labels, target) &&
              tensor_create_like(&created, logits, logits->dtype) &&
              backend_for(logits)->cross_entropy_backward(&created, &input, &labels, statistics, dloss);
  tensor_release(&input);
  tensor_release(&labels);
  return hand_over(out, &created, done);
}
