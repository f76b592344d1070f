/* Hadamard transforms. */
#include "ops/support/quantizer.h"

bool op_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule) {
  if (!check_compute_float(x->dtype, "dtype")) return false;
  if (rule->drawn > 0) return error_set("%s", no_drawn_signs);
  Tensor input = {0}, created = {0};
  bool done = op_contiguous(&input, x) && tensor_create_like(&created, x, x->dtype) &&
              backend_for(x)->hadamard(&created, &input, rule);
  tensor_release(&input);
  return hand_over(out, &created, done);
}
