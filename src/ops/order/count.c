/* How many elements are in each bin. */
#include "ops/support/support.h"

static bool count_bins(Tensor *out, const Tensor *x, const Tensor *edges, int64_t bins) {
  Tensor input = {0}, created = {0};
  bool done = op_contiguous(&input, x) && tensor_create(&created, DTYPE_I64, tensor_device(x), 1, &bins) &&
              backend_for(x)->histogram(&created, &input, edges);
  tensor_release(&input);
  return hand_over(out, &created, done);
}

bool op_histogram(Tensor *out, const Tensor *x, const Tensor *edges) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(x, edges)) return false;
  if (edges->dtype != DTYPE_F32 || edges->rank != 1 || edges->size[0] < 2) {
    return error_set("the edges must be f32 of shape (bins + 1) for at least one bin, got %s of shape %s",
                     dtype_name(edges->dtype), tensor_shape_text(edges, text));
  }
  Tensor list = {0};
  bool done = op_contiguous(&list, edges) && count_bins(out, x, &list, edges->size[0] - 1);
  tensor_release(&list);
  return done;
}

bool op_bincount(Tensor *out, const Tensor *x, int64_t bins) {
  if (!dtype_is_integer(x->dtype)) return error_set("integers are needed, got %s", dtype_name(x->dtype));
  return count_bins(out, x, NULL, bins);
}
