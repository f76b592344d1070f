/* Dequantization: out[i] = value(code[i]) · scale[i / blocksize], rounded to the output's dtype. */
#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 256 };

template <Encoding ENCODING>
__device__ inline void dequantize_element(const QuantizePlan &plan, const float *entries, int64_t i) {
  const float scale = plan.scale[divide(i, plan.blocksize)];
  store_float(plan.values, plan.values_dtype, i, decode<ENCODING>(plan, entries, plan.codes[i]) * scale);
}

/* WIDTH elements at a time lie in one block and are aligned; or WIDTH is 1 and Scalar means nothing. */
template <typename Scalar, int WIDTH, Encoding ENCODING>
__global__ void __launch_bounds__(BLOCK) dequantize_kernel(const __grid_constant__ QuantizePlan plan) {
  __shared__ __align__(16) float entries[MAP_SIZE];
  if (uses_map<ENCODING>(plan)) stage_table(entries, plan.map, sizeof entries); /* values come first in it */
  const int64_t vectors = WIDTH > 1 ? plan.count / WIDTH : 0;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) {
    const auto codes = *reinterpret_cast<const Packed<uint8_t, WIDTH> *>(plan.codes + i * WIDTH);
    const float scale = plan.scale[divide(i * WIDTH, plan.blocksize)];
    float value[WIDTH];
#pragma unroll
    for (int k = 0; k < WIDTH; k++) value[k] = decode<ENCODING>(plan, entries, codes.element[k]) * scale;
    store_as<Scalar>(plan.values, i * WIDTH, value);
  }
  for (int64_t i = vectors * WIDTH + global_thread(); i < plan.count; i += global_threads()) {
    dequantize_element<ENCODING>(plan, entries, i);
  }
}

template <typename Scalar, int WIDTH, Encoding ENCODING> cudaError_t run(Launch launch, const QuantizePlan &plan) {
  const int grid = grid_size(launch, divide_up(plan.count, WIDTH), BLOCK, 16);
  dequantize_kernel<Scalar, WIDTH, ENCODING><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_vectors(Launch launch, const QuantizePlan &plan) {
  constexpr int width = 16 / sizeof(Scalar);
  const bool fits = plan.blocksize % width == 0 || plan.blocksize >= plan.count;
  if (!fits || (uintptr_t)plan.values % 16 != 0 || (uintptr_t)plan.codes % width != 0) {
    return run<Scalar, 1, ENCODING_ANY>(launch, plan);
  }
  return with_encoding(plan,
                       [&](auto encoding) { return run<Scalar, width, decltype(encoding)::value>(launch, plan); });
}

} // namespace

extern "C" cudaError_t launch_dequantize(Launch launch, const QuantizePlan *plan) {
  if (plan->count == 0) return cudaSuccess;
  return with_scalar(plan->values_dtype, [&](auto scalar) { return run_vectors<decltype(scalar)>(launch, *plan); });
}
