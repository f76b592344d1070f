/* Ranges: numbers made from nothing but their position. */
#include "core/arange.h"

#include "common.cuh"

namespace {

enum { BLOCK = 256 };

/* Products and sums are exact to a double's rounding, as the CPU computes them. */
__global__ void __launch_bounds__(BLOCK)
    arange_kernel(void *out, DType dtype, int64_t count, double start, double step) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    with_element(dtype, [&](auto element) {
      auto &to = static_cast<decltype(element) *>(out)[i];
      if constexpr (is_integer<decltype(element)>) {
        from_integer(arange_truncated(start, step, i), to);
      } else {
        from_float((float)(start + (double)i * step), true, to);
      }
    });
  }
}

__global__ void __launch_bounds__(BLOCK)
    arange_exact_kernel(void *out, DType dtype, int64_t count, int64_t start, int64_t step) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    store_integer(out, dtype, i, arange_integer(start, step, i));
  }
}

} // namespace

extern "C" cudaError_t launch_arange(Launch launch, void *out, DType dtype, int64_t count, double start, double step) {
  if (count == 0) return cudaSuccess;
  arange_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, dtype, count, start, step);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_arange_exact(Launch launch, void *out, DType dtype, int64_t count, int64_t start,
                                           int64_t step) {
  if (count == 0) return cudaSuccess;
  arange_exact_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, dtype, count, start, step);
  return cudaGetLastError();
}
