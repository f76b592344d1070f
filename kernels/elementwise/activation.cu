/* Activation functions and their gradients at the speed of memory, for contiguous 16-bit tensors: a kernel for each
 * function, which also leaves the largest magnitudes of what it writes, and column sums of a gradient. They begin at the
 * end, as elementwise.cuh does. */
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
  const int64_t vectors = plan.rows * plan.across, step = (int64_t)gridDim.x * BLOCK * IN_FLIGHT;
  for (int64_t first = (int64_t)blockIdx.x * BLOCK * IN_FLIGHT + threadIdx.x; first < vectors; first += step) {
    uint4 raw_x[IN_FLIGHT], raw_grad[IN_FLIGHT];
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      const int64_t i = vectors - 1 - (first + v * BLOCK);
      raw_x[v] = raw_grad[v] = make_uint4(0, 0, 0, 0);
      if (i < 0) continue;
      raw_x[v] = x[i];
      if (BACKWARD) raw_grad[v] = grad[i];
    }
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      const int64_t i = vectors - 1 - (first + v * BLOCK);
      if (i < 0) continue;
      const uint4 result = activate<Scalar, OP, BACKWARD>(raw_x[v], raw_grad[v]);
      largest = raise<Scalar>(largest, result);
      if (out) out[i] = result;
    }
  }
  if (plan.maxima) write_maximum<BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
}

/* The gradient with its column sums: a warp takes rows of a strip of 32 vectors, as in measure.cu. Sums of up to 256 rows
 * and those of a thread block's eight warps are float32. */
enum { WARPS = BLOCK / WARP, LONGEST_CHAIN = 256 };

template <typename Scalar, UnaryOp OP>
__global__ void __launch_bounds__(BLOCK) gradient_sums_kernel(const __grid_constant__ ActivationPlan plan, int strips) {
  constexpr int width = vector_width<Scalar>;
  __shared__ float shared[WARPS][WARP][width + 1];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int row_group = blockIdx.x / strips, row_groups = gridDim.x / strips;
  const int64_t strip = blockIdx.x % strips, column = strip * WARP + lane, step = (int64_t)row_groups * WARPS;
  const uint4 *x = static_cast<const uint4 *>(plan.x) + column, *grad = static_cast<const uint4 *>(plan.grad) + column;
  uint4 *out = static_cast<uint4 *>(plan.out) + column;
  float sum[width] = {};
  uint32_t largest = 0;
  const bool active = column < plan.across;
  for (int64_t first = (int64_t)row_group * WARPS + warp; active && first < plan.rows; first += step * IN_FLIGHT) {
    uint4 raw_x[IN_FLIGHT], raw_grad[IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) {
      const int64_t row = plan.rows - 1 - (first + i * step);
      raw_x[i] = raw_grad[i] = make_uint4(0, 0, 0, 0);
      if (row < 0) continue;
      raw_x[i] = x[row * plan.across];
      raw_grad[i] = grad[row * plan.across];
    }
#pragma unroll
    for (int i = 0; i < IN_FLIGHT; i++) {
      const int64_t row = plan.rows - 1 - (first + i * step);
      if (row < 0) continue;
      const uint4 result = activate<Scalar, OP, true>(raw_x[i], raw_grad[i]);
      largest = raise<Scalar>(largest, result);
      out[row * plan.across] = result;
      float value[width];
      unpack<Scalar>(result, value);
#pragma unroll
      for (int k = 0; k < width; k++) sum[k] += value[k];
    }
  }
  if (plan.maxima) write_maximum<BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
#pragma unroll
  for (int k = 0; k < width; k++) shared[warp][lane][k] = sum[k];
  __syncthreads();
  /* Neighbouring threads take neighbouring columns, of which there are as many as threads. */
  const int own = threadIdx.x / width, k = threadIdx.x % width;
  if (strip * WARP + own >= plan.across) return;
  float total = shared[0][own][k];
  for (int i = 1; i < WARPS; i++) total += shared[i][own][k];
  plan.partials[(row_group * plan.across + strip * WARP + own) * width + k] = total;
}

int strips_of(const ActivationPlan &plan) { return (int)divide_up(plan.across, WARP); }

int row_groups_of(const ActivationPlan &plan, int multiprocessors) {
  const int64_t turns = divide_up(plan.rows, WARPS), least = divide_up(turns, LONGEST_CHAIN);
  const int64_t wanted = divide_up((int64_t)multiprocessors * MAXIMA_WAVES, strips_of(plan));
  const int64_t groups = wanted > least ? wanted : least;
  return (int)(groups < turns ? groups : turns);
}

int grid_of(const ActivationPlan &plan, int multiprocessors) {
  if (plan.partials) return strips_of(plan) * row_groups_of(plan, multiprocessors);
  return grid_size({nullptr, multiprocessors}, plan.rows * plan.across, BLOCK * IN_FLIGHT, MAXIMA_WAVES);
}

template <typename Scalar, UnaryOp OP> cudaError_t run(Launch launch, const ActivationPlan &plan) {
  const int grid = grid_of(plan, launch.multiprocessors);
  if (plan.partials) {
    gradient_sums_kernel<Scalar, OP><<<grid, BLOCK, 0, launch.stream>>>(plan, strips_of(plan));
  } else if (plan.grad) {
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

extern "C" int activation_partial_rows(const ActivationPlan *plan, int multiprocessors) {
  return row_groups_of(*plan, multiprocessors);
}

extern "C" int activation_grid(const ActivationPlan *plan, int multiprocessors) {
  return grid_of(*plan, multiprocessors);
}

extern "C" cudaError_t launch_activation(Launch launch, const ActivationPlan *plan) {
  return plan->dtype == DTYPE_BF16 ? run_operation<BFloat16>(launch, *plan) : run_operation<Half>(launch, *plan);
}
