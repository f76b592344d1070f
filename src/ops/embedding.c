/* Look-up of rows, one for each token. */
#include "ops/support/support.h"

bool op_embedding(Tensor *out, const Tensor *weight, const Tensor *index) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_compute_float(weight->dtype, "the weight")) return false;
  if (weight->rank != 2) {
    return error_set("a weight of shape (count, features) is needed, got %s", tensor_shape_text(weight, text));
  }
  if (!check_index(weight, index)) return false;
  if (index->rank == TENSOR_MAX_RANK) return error_set("an index of %d dimensions has too many", index->rank);
  Tensor rows = {0}, positions = {0}, created = {0}, shape = *index;
  shape.size[shape.rank++] = weight->size[1];
  bool done = op_contiguous(&rows, weight) && op_contiguous(&positions, index) &&
              tensor_create(&created, weight->dtype, tensor_device(weight), shape.rank, shape.size);
  if (done) {
    Tensor table = as_three_dimensions(&rows, 0), target = created, list = positions;
    list.rank = 1;
    list.size[0] = tensor_count(index);
    list.stride[0] = 1;
    target.rank = 2;
    target.size[0] = list.size[0];
    target.size[1] = weight->size[1];
    target = as_three_dimensions(&target, 0);
    done = backend_for(weight)->index_select(&target, &table, &list);
  }
  tensor_release(&rows);
  tensor_release(&positions);
  return hand_over(out, &created, done);
}
