#include <string.h>

#include "ops/support/support.h"

bool broadcast_shape(int *rank, int64_t *size, const Tensor *x) {
  int new_rank = *rank > x->rank ? *rank : x->rank;
  int64_t merged[TENSOR_MAX_RANK];
  for (int i = 0; i < new_rank; i++) {
    int left = i - (new_rank - *rank), right = i - (new_rank - x->rank);
    int64_t a = left >= 0 ? size[left] : 1, b = right >= 0 ? x->size[right] : 1;
    if (a != b && a != 1 && b != 1) {
      Tensor so_far = {.rank = *rank};
      memcpy(so_far.size, size, sizeof so_far.size[0] * (size_t)*rank);
      char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
      return error_set("shapes %s and %s do not broadcast: %lld and %lld differ", tensor_shape_text(&so_far, first),
                       tensor_shape_text(x, second), (long long)a, (long long)b);
    }
    merged[i] = a == 1 ? b : a;
  }
  *rank = new_rank;
  memcpy(size, merged, sizeof merged[0] * (size_t)new_rank);
  return true;
}

Tensor expanded(const Tensor *x, int rank, const int64_t *size) {
  Tensor view = *x;
  view.rank = rank;
  for (int i = rank - 1; i >= 0; i--) {
    int source = i - (rank - x->rank);
    bool repeats = source < 0 || (x->size[source] == 1 && size[i] != 1);
    view.size[i] = size[i];
    view.stride[i] = repeats ? 0 : x->stride[source];
  }
  return view;
}

Tensor transposed(const Tensor *x, int dimension, int other) {
  Tensor view = *x;
  view.size[dimension] = x->size[other];
  view.size[other] = x->size[dimension];
  view.stride[dimension] = x->stride[other];
  view.stride[other] = x->stride[dimension];
  return view;
}

Tensor with_dimension(const Tensor *x, int dimension) {
  Tensor view = *x;
  view.rank++;
  for (int i = view.rank - 1; i > dimension; i--) {
    view.size[i] = x->size[i - 1];
    view.stride[i] = x->stride[i - 1];
  }
  view.size[dimension] = 1;
  view.stride[dimension] = 1;
  return view;
}

Tensor as_three_dimensions(const Tensor *x, int dimension) {
  Tensor view = *x;
  view.rank = 3;
  view.size[0] = view.size[2] = 1;
  view.size[1] = x->size[dimension];
  for (int i = 0; i < dimension; i++) view.size[0] *= x->size[i];
  for (int i = dimension + 1; i < x->rank; i++) view.size[2] *= x->size[i];
  view.stride[0] = view.size[1] * view.size[2];
  view.stride[1] = view.size[2];
  view.stride[2] = 1;
  return view;
}

bool hand_over(Tensor *out, Tensor *created, bool done) {
  if (done) {
    *out = *created;
  } else {
    tensor_release(created);
  }
  return done;
}

bool last_and_contiguous(Tensor *out, const Tensor *x, int dimension) {
  Tensor view = transposed(x, dimension, x->rank - 1);
  return op_contiguous(out, &view);
}

bool hand_back(Tensor *out, Tensor *created, int dimension, bool done) {
  if (!done || dimension == created->rank - 1) return hand_over(out, created, done);
  Tensor ordered = {0}, view = transposed(created, dimension, created->rank - 1);
  done = op_contiguous(&ordered, &view);
  tensor_release(created);
  return hand_over(out, &ordered, done);
}
