/* What surrounds a product of float8 codes: widening codes for devices or shapes without FP8 products, filling a vector
 * with a scale, and scaling, biasing and rounding a float32 product. */
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

__global__ void __launch_bounds__(BLOCK) finish_product_kernel(const __grid_constant__ FinishPlan plan) {
  const int64_t count = plan.rows * plan.columns;
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    const int64_t row = divide(i, plan.columns), column = i - row * plan.columns;
    float value = plan.product ? plan.product[i] : 0.0f;
    if (plan.scale_a) value = value * plan.scale_a[row * plan.row_step] * plan.scale_b[column * plan.column_step];
    if (plan.bias) value += load_float(plan.bias, plan.dtype, column);
    store_float(plan.out, plan.dtype, i, value);
  }
}

} // namespace

extern "C" cudaError_t launch_widen_codes(Launch launch, uint16_t *out, const uint8_t *codes, DType format,
                                          int64_t count) {
  if (count == 0) return cudaSuccess;
  const auto kernel = format == DTYPE_E4M3 ? widen_codes_kernel<E4M3> : widen_codes_kernel<E5M2>;
  const bool aligned = (uintptr_t)out % 16 == 0 && (uintptr_t)codes % WIDTH == 0;
  kernel<<<grid_size(launch, (count + WIDTH - 1) / WIDTH, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, codes, count,
                                                                                                 aligned);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_expand_scale(Launch launch, float *out, const float *value, int64_t count) {
  if (count == 0) return cudaSuccess;
  expand_scale_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, value, count);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_finish_product(Launch launch, const FinishPlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  const int grid = grid_size(launch, plan->rows * plan->columns, BLOCK, 64);
  finish_product_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}
