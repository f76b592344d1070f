/* Hadamard transforms (core/formats/hadamard.h) of the rows or columns of a matrix.
 *
 * Along rows a thread holds a vector of a group's neighbouring elements, the other elements being those of the lanes beside
 * it: sums of elements further apart than a vector go by shuffles. Down columns it holds vectors of some of a group's rows, and the
 * lanes beside it those of the others. */
#include "quantize/quantize.h"
#include "vectors.cuh"

namespace {

enum { BLOCK = 256 };

/* What stands after the last whole group is copied. */
__device__ inline void copy_element(const HadamardPlan &plan, int64_t i) {
  store_float(plan.out, plan.dtype, i, load_float(plan.x, plan.dtype, i));
}

template <typename Scalar, bool ALIGNED>
__global__ void __launch_bounds__(BLOCK) transform_rows_kernel(const __grid_constant__ HadamardPlan plan) {
  constexpr int width = vector_width<Scalar>;
  const int length = plan.rule.length, lanes = length / width;
  const float factor = hadamard_factor(length);
  const int64_t groups_across = plan.columns / length, threads = plan.rows * groups_across * lanes;
  const int lane = threadIdx.x % lanes;
  /* All threads of a warp take part in every turn, as shuffles need them. */
  for (int64_t first = global_thread() - threadIdx.x; first < threads; first += global_threads()) {
    const int64_t group = divide(first + threadIdx.x, lanes);
    const bool exists = first + threadIdx.x < threads;
    const int64_t row = exists ? divide(group, groups_across) : 0;
    const int64_t at = row * plan.columns + (group - row * groups_across) * length + lane * width;
    float value[width] = {};
    if (exists && ALIGNED) {
      unpack<Scalar>(read_once(reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + at)), value);
    } else if (exists) {
#pragma unroll
      for (int k = 0; k < width; k++) value[k] = to_float(static_cast<const Scalar *>(plan.x)[at + k]);
    }
#pragma unroll
    for (int k = 0; k < width; k++) value[k] = hadamard_signed(&plan.rule, lane * width + k, value[k]);
#pragma unroll
    for (int step = 1; step < width; step *= 2) {
#pragma unroll
      for (int k = 0; k < width; k++) {
        if (k & step) continue;
        const float a = value[k], b = value[k + step];
        value[k] = a + b;
        value[k + step] = a - b;
      }
    }
    for (int step = 1; step < lanes; step *= 2) {
#pragma unroll
      for (int k = 0; k < width; k++) {
        const float other = __shfl_xor_sync(all_lanes, value[k], step);
        value[k] = lane & step ? other - value[k] : value[k] + other;
      }
    }
    if (!exists) continue;
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= factor;
    if (ALIGNED) {
      *reinterpret_cast<uint4 *>(static_cast<Scalar *>(plan.out) + at) = pack<Scalar>(value);
    } else {
#pragma unroll
      for (int k = 0; k < width; k++) from_float(value[k], true, static_cast<Scalar *>(plan.out)[at + k]);
    }
  }
  const int64_t rest = plan.columns - groups_across * length;
  for (int64_t i = global_thread(); i < plan.rows * rest; i += global_threads()) {
    const int64_t row = divide(i, rest);
    copy_element(plan, row * plan.columns + groups_across * length + (i - row * rest));
  }
}

/* Vectors of ROWS neighbouring rows of a group; the lanes that have the others are those of one warp. */
template <typename Scalar, int LENGTH, int ROWS>
__global__ void __launch_bounds__(BLOCK) transform_vectors_kernel(const __grid_constant__ HadamardPlan plan) {
  constexpr int width = vector_width<Scalar>, lanes = LENGTH / ROWS, beside = WARP / lanes;
  const float factor = hadamard_factor(LENGTH);
  const int64_t groups = plan.rows / LENGTH, strips = divide_up(plan.columns, beside * width);
  const int lane = threadIdx.x % WARP / beside;
  for (int64_t i = global_thread() / WARP; i < groups * strips; i += global_threads() / WARP) {
    const int64_t group = divide(i, strips), column = ((i - group * strips) * beside + threadIdx.x % beside) * width;
    const int64_t at = (group * LENGTH + lane * ROWS) * plan.columns + column;
    const bool exists = column < plan.columns;
    float value[ROWS][width] = {};
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      if (!exists) continue;
      const Scalar *from = static_cast<const Scalar *>(plan.x) + at + j * plan.columns;
      unpack<Scalar>(read_once(reinterpret_cast<const uint4 *>(from)), value[j]);
#pragma unroll
      for (int k = 0; k < width; k++) value[j][k] = hadamard_signed(&plan.rule, lane * ROWS + j, value[j][k]);
    }
#pragma unroll
    for (int step = 1; step < ROWS; step *= 2) {
#pragma unroll
      for (int j = 0; j < ROWS; j++) {
        if (j & step) continue;
#pragma unroll
        for (int k = 0; k < width; k++) {
          const float a = value[j][k], b = value[j + step][k];
          value[j][k] = a + b;
          value[j + step][k] = a - b;
        }
      }
    }
#pragma unroll
    for (int step = 1; step < lanes; step *= 2) {
#pragma unroll
      for (int j = 0; j < ROWS; j++) {
#pragma unroll
        for (int k = 0; k < width; k++) {
          const float other = shuffle_xor(value[j][k], step * beside);
          value[j][k] = lane & step ? other - value[j][k] : value[j][k] + other;
        }
      }
    }
    if (!exists) continue;
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
#pragma unroll
      for (int k = 0; k < width; k++) value[j][k] *= factor;
      Scalar *to = static_cast<Scalar *>(plan.out) + at + j * plan.columns;
      *reinterpret_cast<uint4 *>(to) = pack<Scalar>(value[j]);
    }
  }
  for (int64_t i = groups * LENGTH * plan.columns + global_thread(); i < plan.rows * plan.columns;
       i += global_threads()) {
    copy_element(plan, i);
  }
}

/* An element of every row of a group, where vectors are not aligned. */
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
#pragma unroll
    for (int step = 1; step < LENGTH; step *= 2) {
#pragma unroll
      for (int k = 0; k < LENGTH; k++) {
        if (k & step) continue;
        const float a = value[k], b = value[k + step];
        value[k] = a + b;
        value[k + step] = a - b;
      }
    }
#pragma unroll
    for (int k = 0; k < LENGTH; k++) store_float(plan.out, plan.dtype, at + k * plan.columns, value[k] * factor);
  }
  for (int64_t i = groups * LENGTH * plan.columns + global_thread(); i < plan.rows * plan.columns;
       i += global_threads()) {
    copy_element(plan, i);
  }
}

template <typename Scalar> bool is_aligned(const HadamardPlan &plan) {
  return ((uintptr_t)plan.x | (uintptr_t)plan.out) % 16 == 0 && plan.columns % vector_width<Scalar> == 0;
}

template <typename Scalar> cudaError_t run_rows(Launch launch, const HadamardPlan &plan) {
  constexpr int width = vector_width<Scalar>;
  const auto kernel =
      is_aligned<Scalar>(plan) ? transform_rows_kernel<Scalar, true> : transform_rows_kernel<Scalar, false>;
  const int grid = grid_size(launch, divide_up(plan.rows * plan.columns, width), BLOCK, 16);
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, int LENGTH> cudaError_t run_vectors(Launch launch, const HadamardPlan &plan) {
  constexpr int rows = LENGTH <= 32 ? 4 : 8;
  const int grid = grid_size(launch, divide_up(plan.rows * plan.columns, rows * vector_width<Scalar>), BLOCK, 16);
  transform_vectors_kernel<Scalar, LENGTH, rows><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <int LENGTH> cudaError_t run_columns(Launch launch, const HadamardPlan &plan) {
  if (with_scalar(plan.dtype, [&](auto scalar) { return is_aligned<decltype(scalar)>(plan); })) {
    return with_scalar(plan.dtype, [&](auto scalar) { return run_vectors<decltype(scalar), LENGTH>(launch, plan); });
  }
  const int grid = grid_size(launch, divide_up(plan.rows * plan.columns, LENGTH), BLOCK, 16);
  transform_columns_kernel<LENGTH><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_hadamard(Launch launch, const HadamardPlan *plan) {
  if (!plan->rule.down) {
    return with_scalar(plan->dtype, [&](auto scalar) { return run_rows<decltype(scalar)>(launch, *plan); });
  }
  switch (plan->rule.length) {
  case 16:
    return run_columns<16>(launch, *plan);
  case 32:
    return run_columns<32>(launch, *plan);
  case 64:
    return run_columns<64>(launch, *plan);
  case 128:
    return run_columns<128>(launch, *plan);
  }
  trap_missing_case();
}
