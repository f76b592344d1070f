/* Sorting along a dimension. */
#include "ops/support/support.h"

/* A contiguous tensor whose last dimension has `columns` elements as (rows, columns). */
static Tensor as_matrix(const Tensor *x, int64_t rows, int64_t columns) {
  Tensor view = *x;
  view.rank = 2;
  view.size[0] = rows;
  view.size[1] = columns;
  view.stride[0] = columns;
  view.stride[1] = 1;
  return view;
}

bool op_sort(Tensor *values, Tensor *positions, const Tensor *x, int dimension, int64_t count, bool descending) {
  int64_t length = x->size[dimension], rows = 1;
  if (count < 0 || count > length)
    return error_set("%lld of %lld positions asked for", (long long)count, (long long)length);
  if (length > INT32_MAX) return error_set("%lld positions are too many: at most 2^31 - 1", (long long)length);
  Tensor input = {0}, sorted = {0}, places = {0}, ordered = {0};
  if (!last_and_contiguous(&input, x, dimension)) return false;
  int last = input.rank - 1;
  for (int d = 0; d < last; d++) rows *= input.size[d];
  Tensor shape = input;
  shape.size[last] = count;
  bool done = (!values || tensor_create(&sorted, x->dtype, tensor_device(x), shape.rank, shape.size)) &&
              tensor_create(&places, DTYPE_I64, tensor_device(x), shape.rank, shape.size);
  if (done && rows * count > 0) {
    Tensor source = as_matrix(&input, rows, length), to = as_matrix(&places, rows, count);
    Tensor target = values ? as_matrix(&sorted, rows, count) : (Tensor){0};
    done = backend_for(x)->sort(values ? &target : NULL, &to, &source, descending);
  }
  tensor_release(&input);
  if (values) done = hand_back(&ordered, &sorted, dimension, done);
  done = hand_back(positions, &places, dimension, done);
  if (values && done) *values = ordered;
  if (values && !done) tensor_release(&ordered);
  return done;
}
