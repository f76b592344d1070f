/* Small helpers that the operations share. */
#include <string.h>

#include "ops/internal.h"

bool same_device(const Tensor *a, const Tensor *b) {
  if (device_equal(tensor_device(a), tensor_device(b))) return true;
  char first[DEVICE_NAME_MAX], second[DEVICE_NAME_MAX];
  return error_set("tensors are on different devices: %s and %s", device_name(tensor_device(a), first),
                   device_name(tensor_device(b), second));
}

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

bool check_writable(const Tensor *x) {
  for (int i = 0; i < x->rank; i++) {
    if (x->size[i] > 1 && x->stride[i] == 0) {
      return error_set("can't write to an expanded tensor: dimension %d repeats one element; use :contiguous() first",
                       i + 1);
    }
  }
  return true;
}

bool overlaps_partly(const Tensor *a, const Tensor *b) {
  if (a->storage != b->storage) return false;
  bool same_view = a->dtype == b->dtype && a->offset == b->offset && tensor_same_shape(a, b) &&
                   memcmp(a->stride, b->stride, sizeof a->stride[0] * (size_t)a->rank) == 0;
  return !same_view;
}

bool hand_over(Tensor *out, Tensor *created, bool done) {
  if (done) {
    *out = *created;
  } else {
    tensor_release(created);
  }
  return done;
}

bool is_integer_tensor(const Tensor *x) { return !dtype_is_float(x->dtype); }
