/* Softmax. */
#include <math.h>

#include "ops/support/support.h"

/* Without transposed copies. */
static bool softmax_columns(Tensor *out, const Tensor *x, int dimension, bool logarithm) {
  Tensor input = {0}, created = {0};
  bool done = op_contiguous(&input, x) && tensor_create_like(&created, &input, x->dtype);
  if (done) {
    Tensor columns = as_three_dimensions(&input, dimension), result = as_three_dimensions(&created, dimension);
    done = backend_for(x)->softmax_columns(&result, &columns, logarithm);
  }
  tensor_release(&input);
  return hand_over(out, &created, done);
}

bool op_softmax(Tensor *out, const Tensor *x, int dimension, bool logarithm) {
  Tensor input = {0}, created = {0};
  if (!check_float(x)) return false;
  if (dimension < x->rank - 1 && backend_for(x)->softmax_columns && dtype_is_compute_float(x->dtype)) {
    return softmax_columns(out, x, dimension, logarithm);
  }
  if (!last_and_contiguous(&input, x, dimension)) return false;
  SoftmaxRule rule = {.scale = 1, .logarithm = logarithm};
  bool done = tensor_create_like(&created, &input, x->dtype) && backend_for(x)->softmax(&created, &input, rule);
  tensor_release(&input);
  return hand_back(out, &created, dimension, done);
}

bool op_softmax_backward(Tensor *out, const Tensor *dy, const Tensor *y, int dimension, bool logarithm) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!check_float(dy) || !check_float(y) || !same_device(dy, y)) return false;
  if (!tensor_same_shape(dy, y)) {
    return error_set("shapes %s and %s differ", tensor_shape_text(dy, first), tensor_shape_text(y, second));
  }
  Tensor grad = {0}, output = {0}, created = {0};
  SoftmaxRule rule = {.scale = 1, .logarithm = logarithm};
  bool done = last_and_contiguous(&grad, dy, dimension) && last_and_contiguous(&output, y, dimension) &&
              tensor_create_like(&created, &output, y->dtype) &&
              backend_for(y)->softmax_backward(&created, &grad, &output, rule);
  tensor_release(&grad);
  tensor_release(&output);
  return hand_back(out, &created, dimension, done);
}

static bool check_scores(const Tensor *x, double scale, bool causal) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(x->dtype, "dtype")) return false;
  if (!isfinite(scale)) return error_set("the scale must be finite, got %g", scale);
  if (x->rank < (causal ? 2 : 1)) {
    return error_set("at least %d dimensions are needed, got shape %s", causal ? 2 : 1, tensor_shape_text(x, text));
  }
  if (causal && x->size[x->rank - 2] > x->size[x->rank - 1]) {
    return error_set("causal: there may be no more queries than keys, got shape %s (…, queries, keys)",
                     tensor_shape_text(x, text));
  }
  return tensor_is_contiguous(x) || error_set("a contiguous tensor is needed");
}

bool op_softmax_in_place(Tensor *x, double scale, bool causal, bool masked) {
  if (!check_scores(x, scale, causal)) return false;
  SoftmaxRule rule = {.scale = (float)scale, .causal = causal, .masked = masked};
  if (!backend_for(x)->softmax(x, x, rule)) return false;
  tensor_changed(x);
  return true;
}

bool op_softmax_backward_in_place(Tensor *dy, const Tensor *y, double scale, bool causal) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!check_scores(dy, scale, causal) || !check_scores(y, scale, causal) || !same_device(dy, y)) return false;
  if (!tensor_same_shape(dy, y) || dy->storage == y->storage) {
    return error_set("two tensors of one shape are needed, got %s and %s", tensor_shape_text(dy, first),
                     tensor_shape_text(y, second));
  }
  SoftmaxRule rule = {.scale = (float)scale, .causal = causal};
  if (!backend_for(y)->softmax_backward(dy, dy, y, rule)) return false;
  tensor_changed(dy);
  return true;
}
