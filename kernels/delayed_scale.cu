/* Delayed scaling: the scale of a tensor from the largest magnitudes of earlier ones, to which its own is added. */
#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 256 };

__global__ void __launch_bounds__(BLOCK) delayed_scale_kernel(const __grid_constant__ DelayedPlan plan) {
  const uint32_t magnitude = whole_maximum(plan.maxima, plan.maxima_count);
  const uint32_t largest = largest_of_history<BLOCK>(plan.history, plan.length);
  const float scale = scale_of_history(largest, magnitude, &plan.rule);
  if (threadIdx.x == 0) plan.scale[0] = scale;
  if (plan.record == HISTORY_KEEP || scale != scale) return;
  if (plan.record == HISTORY_SAME) {
    if (threadIdx.x == 0) plan.history[0] = fmaxf(plan.history[0], float_from_bits(magnitude));
    return;
  }
  /* From the end, so that nothing is overwritten before it has moved. */
  for (int64_t first = (plan.length - 1) / BLOCK * BLOCK; first >= 0; first -= BLOCK) {
    const int64_t i = first + threadIdx.x;
    const float moved = i == 0 ? float_from_bits(magnitude) : i < plan.length ? plan.history[i - 1] : 0;
    __syncthreads();
    if (i < plan.length) plan.history[i] = moved;
    __syncthreads();
  }
}

} // namespace

extern "C" cudaError_t launch_delayed_scale(Launch launch, const DelayedPlan *plan) {
  delayed_scale_kernel<<<1, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}
