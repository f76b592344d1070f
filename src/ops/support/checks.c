#include <string.h>

#include "ops/support/support.h"

bool check_compute_float(DType dtype, const char *what) {
  return dtype_is_compute_float(dtype) || error_set("%s must be f32, f16 or bf16, got %s", what, dtype_name(dtype));
}

bool same_device(const Tensor *a, const Tensor *b) {
  if (device_equal(tensor_device(a), tensor_device(b))) return true;
  char first[DEVICE_NAME_MAX], second[DEVICE_NAME_MAX];
  return error_set("tensors are on different devices: %s and %s", device_name(tensor_device(a), first),
                   device_name(tensor_device(b), second));
}

/* Whether windows of a dimension overlap: the elements of dimensions with smaller strides reach beyond one of its. All
 * other views of a tensor without overlaps are nested. */
static bool overlaps_itself(const Tensor *x) {
  for (int i = 0; i < x->rank; i++) {
    if (x->size[i] <= 1) continue;
    int64_t reach = 0;
    for (int d = 0; d < x->rank; d++) {
      bool inside = x->stride[d] < x->stride[i] || (x->stride[d] == x->stride[i] && d < i);
      if (inside && x->size[d] > 1) reach += (x->size[d] - 1) * x->stride[d];
    }
    if (reach >= x->stride[i]) return true;
  }
  return false;
}

bool check_writable(const Tensor *x) {
  for (int i = 0; i < x->rank; i++) {
    if (x->size[i] > 1 && x->stride[i] == 0) {
      return error_set("can't write to an expanded tensor: dimension %d repeats one element; use :contiguous() first",
                       i + 1);
    }
  }
  if (tensor_count(x) > 0 && overlaps_itself(x))
    return error_set("can't write to windows that overlap; use :contiguous() first");
  return true;
}

bool overlaps_partly(const Tensor *a, const Tensor *b) {
  if (a->storage != b->storage) return false;
  bool same_view = a->dtype == b->dtype && a->offset == b->offset && tensor_same_shape(a, b) &&
                   memcmp(a->stride, b->stride, sizeof a->stride[0] * (size_t)a->rank) == 0;
  return !same_view;
}

bool check_index(const Tensor *x, const Tensor *index) {
  if (!dtype_is_integer(index->dtype))
    return error_set("the index must have an integer dtype, got %s", dtype_name(index->dtype));
  return same_device(x, index);
}

bool check_float(const Tensor *x) {
  return dtype_is_float(x->dtype) || error_set("a floating-point tensor is needed, got %s", dtype_name(x->dtype));
}
