/* The loop that every elementwise kernel runs: find the elements of each operand, widen, apply a function, round,
 * store. */
#ifndef FP8_ELEMENTWISE_CUH
#define FP8_ELEMENTWISE_CUH

#include "common.cuh"
#include "elementwise/elementwise.h"

/* Element offsets of vector i (of `width` elements along the innermost dimension) in each operand. */
template <int OPERANDS>
__device__ inline void element_offsets(const ElementwisePlan &plan, int width, int64_t i, int64_t (&offset)[OPERANDS]) {
  if (plan.rank == 1) {
#pragma unroll
    for (int k = 0; k < OPERANDS; k++) offset[k] = i * width * plan.operand[k].stride[0];
    return;
  }
#pragma unroll
  for (int k = 0; k < OPERANDS; k++) offset[k] = 0;
  for (int d = plan.rank - 1; d >= 0; d--) {
    const int64_t step = d == plan.rank - 1 ? width : 1;
    int64_t coordinate = i;
    if (d > 0) {
      const int64_t size = d == plan.rank - 1 ? plan.size[d] / width : plan.size[d];
      const int64_t quotient = divide(i, size);
      coordinate = i - quotient * size;
      i = quotient;
    }
#pragma unroll
    for (int k = 0; k < OPERANDS; k++) offset[k] += coordinate * step * plan.operand[k].stride[d];
  }
}

/* Applies Function::operator()(in[INPUTS][WIDTH], out[WIDTH]), in float32, to one vector. */
template <int WIDTH, typename Function>
__device__ inline void apply_floats(const ElementwisePlan &plan, const Function &function, int64_t i) {
  constexpr int inputs = Function::inputs;
  int64_t offset[1 + inputs];
  element_offsets(plan, WIDTH, i, offset);
  float in[inputs][WIDTH], out[WIDTH];
#pragma unroll
  for (int k = 0; k < inputs; k++) {
    const ElementOperand &operand = plan.operand[1 + k];
    if (operand.data && (WIDTH == 1 || operand.stride[plan.rank - 1] != 0)) {
      load_vector(operand.data, operand.dtype, offset[1 + k], in[k]);
    } else {
      const float number = operand.data ? load_float(operand.data, operand.dtype, offset[1 + k]) : operand.number;
#pragma unroll
      for (int j = 0; j < WIDTH; j++) in[k][j] = number;
    }
  }
  function(in, out);
  store_vector(plan.operand[0].data, plan.operand[0].dtype, offset[0], out, plan.saturate);
}

/* The end comes first: after a product, or a kernel that goes forward, it is still in the cache; and what is written last
 * is where the next product begins. Rank 1 may end in less than a whole vector. Six thread blocks have to fit on a
 * multiprocessor, or too few loads are on their way. */
template <int WIDTH, typename Function>
__global__ void __launch_bounds__(ELEMENTWISE_BLOCK, 6)
    elementwise_kernel(const __grid_constant__ ElementwisePlan plan, const Function function) {
  const int64_t vectors = plan.count / WIDTH;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) {
    apply_floats<WIDTH>(plan, function, vectors - 1 - i);
  }
  if (WIDTH > 1) {
    const int64_t i = vectors * WIDTH + global_thread();
    if (i < plan.count) apply_floats<1>(plan, function, i);
  }
}

/* An element of an integer tensor, or whether one of a float tensor is not 0. */
__device__ inline int64_t load_as_integer(const void *data, DType dtype, int64_t i) {
  return with_element(dtype, [&](auto element) -> int64_t {
    const auto value = static_cast<const decltype(element) *>(data)[i];
    if constexpr (is_integer<decltype(element)>) {
      return value;
    } else {
      return to_float(value) != 0;
    }
  });
}

/* Applies Function::integer(in[INPUTS]), in 64 bits. Only the condition of `where` may have a float dtype here. */
template <typename Function>
__global__ void __launch_bounds__(ELEMENTWISE_BLOCK)
    elementwise_integer_kernel(const __grid_constant__ ElementwisePlan plan, const Function function) {
  constexpr int inputs = Function::inputs;
  for (int64_t i = global_thread(); i < plan.count; i += global_threads()) {
    int64_t offset[1 + inputs], in[inputs];
    element_offsets(plan, 1, i, offset);
#pragma unroll
    for (int k = 0; k < inputs; k++) {
      const ElementOperand &operand = plan.operand[1 + k];
      in[k] = operand.data ? load_as_integer(operand.data, operand.dtype, offset[1 + k]) : operand.integer;
    }
    const int64_t result = function.integer(in);
    if (plan.wrap) {
      store_wrapped_integer(plan.operand[0].data, plan.operand[0].dtype, offset[0], result);
    } else {
      store_integer(plan.operand[0].data, plan.operand[0].dtype, offset[0], result);
    }
  }
}

template <typename Function>
cudaError_t launch_elementwise(Launch launch, const ElementwisePlan *plan, const Function &function) {
  if (plan->count == 0) return cudaSuccess;
  /* The tail of a rank 1 plan needs up to WIDTH - 1 threads, which the first thread block has. */
  const int grid = grid_size(launch, divide_up(plan->count, plan->vector_width), ELEMENTWISE_BLOCK, 64);
  if (plan->integer) {
    elementwise_integer_kernel<<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan, function);
    return cudaGetLastError();
  }
  switch (plan->vector_width) {
  case 1:
    elementwise_kernel<1><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan, function);
    return cudaGetLastError();
  case 4:
    elementwise_kernel<4><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan, function);
    return cudaGetLastError();
  case 8:
    elementwise_kernel<8><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan, function);
    return cudaGetLastError();
  }
  trap_missing_case();
}

#endif
