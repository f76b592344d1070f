/* Codes and transposed codes of a tensor. */
#include "quantize/transposed.cuh"

namespace {

template <typename Scalar, Encoding ENCODING> cudaError_t run(Launch launch, const TransposePlan &plan) {
  return plan.partials ? run_transposed<Scalar, ENCODING, true>(launch, plan, Itself())
                       : run_transposed<Scalar, ENCODING, false>(launch, plan, Itself());
}

template <typename Scalar> cudaError_t run_format(Launch launch, const TransposePlan &plan) {
  return with_float8(plan.quantize.format,
                     [&](auto format) { return run<Scalar, encoding_of_code<decltype(format)>>(launch, plan); });
}

} // namespace

extern "C" cudaError_t launch_quantize_transposed(Launch launch, const TransposePlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  return with_scalar(plan->quantize.dtype, [&](auto scalar) { return run_format<decltype(scalar)>(launch, *plan); });
}
