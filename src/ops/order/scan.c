/* Running sums and products. */
#include "ops/support/support.h"

/* With fewer neighbours than this, columns are scanned as rows. */
enum { FEW_COLUMNS = 16 };

bool op_scan(Tensor *out, const Tensor *x, int dimension, ScanRule rule) {
  DType dtype = dtype_is_integer(x->dtype) ? DTYPE_I64 : x->dtype;
  int64_t inner = 1;
  for (int d = dimension + 1; d < x->rank; d++) inner *= x->size[d];
  int place = inner < FEW_COLUMNS ? x->rank - 1 : dimension; /* of the dimension while it is scanned */
  Tensor input = {0}, created = {0};
  bool done = place == dimension ? op_contiguous(&input, x) : last_and_contiguous(&input, x, dimension);
  if (!done) return false;
  done = tensor_create_like(&created, &input, dtype);
  if (done) {
    Tensor target = as_three_dimensions(&created, place), source = as_three_dimensions(&input, place);
    done = backend_for(x)->scan(&target, &source, rule);
  }
  tensor_release(&input);
  return place == dimension ? hand_over(out, &created, done) : hand_back(out, &created, dimension, done);
}
