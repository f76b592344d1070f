/* What comes after a product in float32: scaling, biasing and rounding it. */
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

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

extern "C" cudaError_t launch_finish_product(Launch launch, const FinishPlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  const int grid = grid_size(launch, plan->rows * plan->columns, BLOCK, 64);
  finish_product_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}
