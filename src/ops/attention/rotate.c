/* Rotary position embedding: checks, and the dimensions that the backends see. */
#include <math.h>

#include "ops/support/support.h"

/* (outer, positions, inner, features) of a contiguous tensor. */
static Tensor as_positions(const Tensor *x, int dimension) {
  Tensor view = *x;
  view.rank = 4;
  int64_t outer = 1, inner = 1, features = x->size[x->rank - 1];
  for (int d = 0; d < dimension; d++) outer *= x->size[d];
  for (int d = dimension + 1; d < x->rank - 1; d++) inner *= x->size[d];
  int64_t size[4] = {outer, x->size[dimension], inner, features};
  int64_t stride = 1;
  for (int d = 3; d >= 0; d--) {
    view.size[d] = size[d];
    view.stride[d] = stride;
    stride *= size[d];
  }
  return view;
}

bool op_rotate(Tensor *out, const Tensor *x, int dimension, const Rotation *rotation) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(x->dtype, "dtype")) return false;
  if (x->rank < 2 || dimension == x->rank - 1) {
    return error_set(
        "positions and, as the last dimension, features are needed, got shape %s, positions in dimension %d",
        tensor_shape_text(x, text), dimension + 1);
  }
  if (x->size[x->rank - 1] % 2 != 0) {
    return error_set("an even number of features is needed, got shape %s", tensor_shape_text(x, text));
  }
  if (!(rotation->base > 0) || !isfinite(rotation->base)) {
    return error_set("the base must be finite and above 0, got %g", rotation->base);
  }
  Tensor input = {0}, created = {0};
  if (!op_contiguous(&input, x)) return false;
  bool done = tensor_create_like(&created, x, x->dtype);
  if (done && tensor_count(x) > 0) {
    Tensor from = as_positions(&input, dimension), to = as_positions(&created, dimension);
    done = backend_for(x)->rotate(&to, &from, rotation);
  }
  tensor_release(&input);
  return hand_over(out, &created, done);
}
