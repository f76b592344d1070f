/* Dropout: checks, and where the mask comes from. */
#include "ops/support/support.h"

bool op_dropout(Tensor *out, const Tensor *x, double probability, RandomSource *source, bool again) {
  if (!check_compute_float(x->dtype, "dtype")) return false;
  if (!(probability >= 0 && (float)probability < 1)) {
    return error_set("the probability must be at least 0 and below 1, got %g", probability);
  }
  if (!again && !op_check_random()) return false;
  Tensor input = {0}, created = {0};
  if (!op_contiguous(&input, x)) return false;
  bool done = tensor_create_like(&created, x, x->dtype);
  if (done && !again) *source = op_next_random(tensor_count(x));
  done = done && backend_for(x)->dropout(&created, &input, (float)probability, *source);
  tensor_release(&input);
  return hand_over(out, &created, done);
}
