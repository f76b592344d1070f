/* What surrounds a product of float8 codes: widening codes for devices or shapes without FP8 products, and filling a
 * vector with a scale. */
#include "common.cuh"

namespace {

enum { BLOCK = 256, WIDTH = 8 };

/* Every finite float8 value is a bf16 value, so rounding changes nothing. */
template <typename Code>
__global__ void __launch_bounds__(BLOCK)
    widen_codes_kernel(uint16_t *out, const uint8_t *codes, int64_t count, bool aligned) {
  const int64_t vectors = aligned ? count / WIDTH : 0;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) {
    float value[WIDTH];
    load_as<Code>(codes, i * WIDTH, value);
    store_as<BFloat16>(out, i * WIDTH, value);
  }
  for (int64_t i = vectors * WIDTH + global_thread(); i < count; i += global_threads()) {
    float value[1];
    load_as<Code>(codes, i, value);
    store_as<BFloat16>(out, i, value);
  }
}

__global__ void __launch_bounds__(BLOCK) expand_scale_kernel(float *out, const float *value, int64_t count) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) out[i] = value[0];
}

} // namespace

extern "C" cudaError_t launch_widen_codes(Launch launch, uint16_t *out, const uint8_t *codes, DType format,
                                          int64_t count) {
  if (count == 0) return cudaSuccess;
  const auto kernel = with_float8(format, [](auto code) { return widen_codes_kernel<decltype(code)>; });
  const bool aligned = (uintptr_t)out % 16 == 0 && (uintptr_t)codes % WIDTH == 0;
  kernel<<<grid_size(launch, divide_up(count, WIDTH), BLOCK, 64), BLOCK, 0, launch.stream>>>(out, codes, count,
                                                                                             aligned);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_expand_scale(Launch launch, float *out, const float *value, int64_t count) {
  if (count == 0) return cudaSuccess;
  expand_scale_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, value, count);
  return cudaGetLastError();
}
