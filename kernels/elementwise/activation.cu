/* Activation functions and their gradients at the speed of memory, for contiguous 16-bit tensors: a kernel for each
 * function, which also leaves the largest magnitudes of what it writes. */
#include "elementwise/activation.cuh"
#include "elementwise/elementwise.h"
#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 256, IN_FLIGHT = 4 }; /* vectors of a thread */

template <typename Scalar, UnaryOp OP, bool BACKWARD>
__global__ void __launch_bounds__(BLOCK) activation_kernel(const __grid_constant__ ActivationPlan plan) {
  const uint4 *x = static_cast<const uint4 *>(plan.x), *grad = static_cast<const uint4 *>(plan.grad);
  uint4 *out = static_cast<uint4 *>(plan.out);
  uint32_t largest = 0;
  if (plan.history && largest_of_history<BLOCK>(plan.history, plan.history_length) != 0) return;
  const int64_t step = (int64_t)gridDim.x * BLOCK * IN_FLIGHT;
  for (int64_t first = (int64_t)blockIdx.x * BLOCK * IN_FLIGHT + threadIdx.x; first < plan.vectors; first += step) {
    uint4 raw_x[IN_FLIGHT], raw_grad[IN_FLIGHT];
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      const int64_t i = first + v * BLOCK;
      raw_x[v] = raw_grad[v] = make_uint4(0, 0, 0, 0);
      if (i >= plan.vectors) continue;
      raw_x[v] = x[i];
      if (BACKWARD) raw_grad[v] = grad[i];
    }
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      const int64_t i = first + v * BLOCK;
      if (i >= plan.vectors) continue;
      const uint4 result = activate<Scalar, OP, BACKWARD>(raw_x[v], raw_grad[v]);
      largest = raise<Scalar>(largest, result);
      if (out) out[i] = result;
    }
  }
  if (plan.maxima) write_maximum<BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
}

int grid_of(const ActivationPlan &plan, int multiprocessors) {
  return grid_size({nullptr, multiprocessors}, plan.vectors, BLOCK * IN_FLIGHT, MAXIMA_WAVES);
}

template <typename Scalar, UnaryOp OP> cudaError_t run(Launch launch, const ActivationPlan &plan) {
  const int grid = grid_of(plan, launch.multiprocessors);
  if (plan.grad) {
    activation_kernel<Scalar, OP, true><<<grid, BLOCK, 0, launch.stream>>>(plan);
  } else {
    activation_kernel<Scalar, OP, false><<<grid, BLOCK, 0, launch.stream>>>(plan);
  }
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_operation(Launch launch, const ActivationPlan &plan) {
  if (plan.op == UNARY_RELU) return run<Scalar, UNARY_RELU>(launch, plan);
  if (plan.op == UNARY_GELU) return run<Scalar, UNARY_GELU>(launch, plan);
  if (plan.op == UNARY_GELU_TANH) return run<Scalar, UNARY_GELU_TANH>(launch, plan);
  if (plan.op == UNARY_SILU) return run<Scalar, UNARY_SILU>(launch, plan);
  trap_missing_case();
}

} // namespace

extern "C" int activation_grid(const ActivationPlan *plan, int multiprocessors) {
  return grid_of(*plan, multiprocessors);
}

extern "C" cudaError_t launch_activation(Launch launch, const ActivationPlan *plan) {
  return plan->dtype == DTYPE_BF16 ? run_operation<BFloat16>(launch, *plan) : run_operation<Half>(launch, *plan);
}
