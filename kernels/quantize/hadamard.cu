/* Hadamard transforms (core/formats/hadamard.h) of the rows or columns of a matrix, in warps' patches (warp_patches.cuh). */
#include "quantize/warp_patches.cuh"

namespace {

/* Vectors of x begin at multiples of 16 bytes. */
template <typename Scalar>
__global__ void __launch_bounds__(BLOCK, 5) transform_kernel(const __grid_constant__ HadamardPlan plan, int down) {
  const Patches<Scalar> patches(plan.rows, plan.columns, down);
  const int64_t own = global_thread() / WARP;
  if (own >= patches.count()) return;
  const Place place = patches.at(own);
  uint4 x[ROWS];
  patches.load(plan.x, place, x);
  transform(patches, plan.rule, plan.rule.negative, place, x);
  Scalar *to = static_cast<Scalar *>(plan.out) + patches.element(place, 0);
  const int have = patches.rows_of(place);
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    if (j < have) store_vector(reinterpret_cast<uint4 *>(to + j * plan.columns), x[j]);
  }
}

/* --- where vectors are not aligned --- */

/* What stands after the last whole group is copied. */
__device__ inline void copy_element(const HadamardPlan &plan, int64_t i) {
  store_float(plan.out, plan.dtype, i, load_float(plan.x, plan.dtype, i));
}

/* A group of a row for every thread. */
template <int LENGTH>
__global__ void __launch_bounds__(BLOCK) transform_rows_kernel(const __grid_constant__ HadamardPlan plan) {
  const float factor = hadamard_factor(LENGTH);
  const int64_t across = plan.columns / LENGTH, rest = plan.columns - across * LENGTH;
  for (int64_t i = global_thread(); i < plan.rows * across; i += global_threads()) {
    const int64_t row = divide(i, across), at = row * plan.columns + (i - row * across) * LENGTH;
    float value[LENGTH];
#pragma unroll
    for (int k = 0; k < LENGTH; k++) {
      value[k] = hadamard_signed(&plan.rule, k, load_float(plan.x, plan.dtype, at + k));
    }
    add_and_subtract(value);
#pragma unroll
    for (int k = 0; k < LENGTH; k++) store_float(plan.out, plan.dtype, at + k, value[k] * factor);
  }
  for (int64_t i = global_thread(); i < plan.rows * rest; i += global_threads()) {
    const int64_t row = divide(i, rest);
    copy_element(plan, row * plan.columns + across * LENGTH + (i - row * rest));
  }
}

/* A group of a column for every thread. */
template <int LENGTH>
__global__ void __launch_bounds__(BLOCK) transform_columns_kernel(const __grid_constant__ HadamardPlan plan) {
  const float factor = hadamard_factor(LENGTH);
  const int64_t groups = plan.rows / LENGTH;
  for (int64_t i = global_thread(); i < groups * plan.columns; i += global_threads()) {
    const int64_t group = divide(i, plan.columns);
    const int64_t at = group * LENGTH * plan.columns + (i - group * plan.columns);
    float value[LENGTH];
#pragma unroll
    for (int k = 0; k < LENGTH; k++) {
      value[k] = hadamard_signed(&plan.rule, k, load_float(plan.x, plan.dtype, at + k * plan.columns));
    }
    add_and_subtract(value);
#pragma unroll
    for (int k = 0; k < LENGTH; k++) store_float(plan.out, plan.dtype, at + k * plan.columns, value[k] * factor);
  }
  for (int64_t i = groups * LENGTH * plan.columns + global_thread(); i < plan.rows * plan.columns;
       i += global_threads()) {
    copy_element(plan, i);
  }
}

/* --- launching --- */

/* Lanes below one another, of whole groups. */
template <typename Scalar> int lanes_down(const HadamardRule &rule) {
  if (rule.down) return rule.length / ROWS;
  const int beside = rule.length / vector_width<Scalar>;
  return WARP / (beside > 8 ? beside : 8);
}

template <typename Scalar> cudaError_t run(Launch launch, const HadamardPlan &plan) {
  const int down = lanes_down<Scalar>(plan.rule);
  const Patches<Scalar> patches(plan.rows, plan.columns, down);
  const unsigned grid = (unsigned)divide_up(patches.count(), (int64_t)WARPS);
  transform_kernel<Scalar><<<grid, BLOCK, 0, launch.stream>>>(plan, down);
  return cudaGetLastError();
}

template <int LENGTH> cudaError_t run_elements(Launch launch, const HadamardPlan &plan) {
  const int grid = grid_size(launch, divide_up(plan.rows * plan.columns, LENGTH), BLOCK, 16);
  const auto kernel = plan.rule.down ? transform_columns_kernel<LENGTH> : transform_rows_kernel<LENGTH>;
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_hadamard(Launch launch, const HadamardPlan *plan) {
  const bool aligned = with_scalar(plan->dtype, [&](auto scalar) {
    return ((uintptr_t)plan->x | (uintptr_t)plan->out) % 16 == 0 && plan->columns % vector_width<decltype(scalar)> == 0;
  });
  if (aligned) return with_scalar(plan->dtype, [&](auto scalar) { return run<decltype(scalar)>(launch, *plan); });
  switch (plan->rule.length) {
  case 16:
    return run_elements<16>(launch, *plan);
  case 32:
    return run_elements<32>(launch, *plan);
  case 64:
    return run_elements<64>(launch, *plan);
  case 128:
    return run_elements<128>(launch, *plan);
  }
  trap_missing_case();
}
