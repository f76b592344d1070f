/* The places of values in ascending lists. */
#include "ops/support/support.h"

static bool check_rows(const Tensor *sorted, const Tensor *values) {
  if (sorted->rank == 1) return true;
  bool fits = sorted->rank == values->rank && sorted->rank > 0;
  for (int d = 0; fits && d < sorted->rank - 1; d++) fits = sorted->size[d] == values->size[d];
  if (fits) return true;
  char text[TENSOR_SHAPE_TEXT_MAX], expected[TENSOR_SHAPE_TEXT_MAX];
  return error_set("a sorted sequence of 1 dimension, or of the values' shape %s in all but the last, is needed, got "
                   "shape %s",
                   tensor_shape_text(values, expected), tensor_shape_text(sorted, text));
}

/* A contiguous tensor as (rows, columns): one row if `whole`. */
static Tensor as_rows(const Tensor *x, bool whole) {
  if (!whole) return tensor_as_matrix(x);
  Tensor row = *x;
  row.rank = 2;
  row.size[0] = 1;
  row.size[1] = row.stride[0] = tensor_count(x);
  row.stride[1] = 1;
  return row;
}

bool op_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right) {
  if (!same_device(sorted, values) || !check_rows(sorted, values)) return false;
  bool integers = dtype_is_integer(sorted->dtype) && dtype_is_integer(values->dtype);
  Tensor list = {0}, wanted = {0}, created = {0};
  bool done = op_convert(&list, sorted, integers ? DTYPE_I64 : DTYPE_F32, tensor_device(sorted), true) &&
              op_contiguous(&wanted, values) && tensor_create_like(&created, values, DTYPE_I64);
  if (done) {
    bool whole = sorted->rank == 1;
    Tensor places = as_rows(&created, whole), lists = as_rows(&list, whole), numbers = as_rows(&wanted, whole);
    done = backend_for(sorted)->searchsorted(&places, &lists, &numbers, right);
  }
  tensor_release(&list);
  tensor_release(&wanted);
  return hand_over(out, &created, done);
}
