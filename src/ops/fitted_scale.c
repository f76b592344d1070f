/* Fitted scales: core/formats/fit.h. */
#include "ops/support/quantizer.h"

bool op_fitted_scale(Tensor *scale, const Tensor *x, const QuantizeOptions *options) {
  Quantizer quantizer;
  if (!check_compute_float(x->dtype, "dtype") || !make_quantizer(&quantizer, x, options)) return false;
  Tensor input = {0}, upper = {0}, created = {0};
  int64_t blocks = block_count(x, &quantizer, options->blocks);
  bool done = op_contiguous(&input, x) && tensor_create(&created, DTYPE_F32, tensor_device(x), 1, &blocks);
  if (done && options->upper != UPPER_NONE && tensor_count(x) > 0) {
    done = measure_upper_scales(&upper, &input, options->upper);
    quantizer.upper = &upper;
  }
  done = done && backend_for(x)->fitted_scale(&created, &input, &quantizer, &options->fit);
  tensor_release(&input);
  tensor_release(&upper);
  return hand_over(scale, &created, done);
}
