/* Ranges: numbers made from nothing but their position. */
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

/* Products and sums are exact to a double's rounding, as the CPU computes them. */
__global__ void __launch_bounds__(BLOCK) arange_kernel(void *out, DType dtype, int64_t count, ArangeRule rule) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    with_element(dtype, [&](auto element) {
      auto &to = static_cast<decltype(element) *>(out)[i];
      if constexpr (is_integer<decltype(element)>) {
        from_integer(arange_integer(rule, i), to);
      } else {
        from_float(float_to_narrow(dtype, arange_number(rule, i)), true, to);
      }
    });
  }
}

} // namespace

extern "C" cudaError_t launch_arange(Launch launch, void *out, DType dtype, int64_t count, ArangeRule rule) {
  if (count == 0) return cudaSuccess;
  arange_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, dtype, count, rule);
  return cudaGetLastError();
}
