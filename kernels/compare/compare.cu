/* What quantizing did to a tensor, in one pass over it and what it became: every thread counts and sums elements a grid
 * apart, thread blocks leave one Comparison each, and a last thread block adds those up. Sums are double throughout:
 * squares of small gradients leave float32's range. compare_vectors.cu has faster ways for most tensors. */
#include "compare/compare.h"
#include "compare/tally.cuh"

namespace {

static_assert(sizeof(Comparison) == COMPARISON_WORDS * sizeof(int64_t), "a row of the tensor is one Comparison");

enum { BLOCK = 256, VECTOR = 4, WAVES = 4 };

/* Which scale is element i's. */
__device__ inline int64_t scale_position(const CompareRule &rule, int64_t i) {
  if (rule.tile_rows == 0) return divide(i, rule.blocksize);
  const int64_t row = divide(i, rule.columns), column = i - row * rule.columns;
  const int64_t across = divide(rule.columns + rule.tile_columns - 1, rule.tile_columns);
  return divide(row, rule.tile_rows) * across + divide(column, rule.tile_columns);
}

/* Elements i … i + N - 1. */
template <int N> __device__ inline void take_vector(Tally &all, const ComparePlan &plan, int64_t i) {
  float x[N], value[N];
  load_vector<N>(plan.x, plan.dtype, i, x);
  if (plan.values) {
    load_vector<N>(plan.values, plan.values_dtype, i, value);
  } else {
#pragma unroll
    for (int k = 0; k < N; k++) value[k] = x[k];
  }
#pragma unroll
  for (int k = 0; k < N; k++) {
    float low = -INFINITY, high = INFINITY;
    if (plan.scale) {
      const float scale = plan.scale[scale_position(plan.rule, i + k)];
      low = plan.rule.low * scale;
      high = plan.rule.high * scale;
      if (plan.codes) value[k] *= scale;
    }
    take(all, x[k], value[k], low, high, i + k);
  }
}

__global__ void __launch_bounds__(BLOCK) compare_kernel(const __grid_constant__ ComparePlan plan) {
  Tally all = empty_tally();
  const int64_t vectors = plan.vectorize ? plan.count / VECTOR : 0;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) take_vector<VECTOR>(all, plan, i * VECTOR);
  for (int64_t i = vectors * VECTOR + global_thread(); i < plan.count; i += global_threads()) {
    take_vector<1>(all, plan, i);
  }
  leave_tally(all, plan.partials);
}

__global__ void __launch_bounds__(BLOCK) finish_compare_kernel(Comparison *row, const Comparison *partials, int count) {
  Comparison all = {};
  all.first_nonfinite = INT64_MAX;
  for (int i = threadIdx.x; i < count; i += BLOCK) add_up(all, partials[i]);
  all = across_block(all);
  if (all.nonfinite == 0) all.first_nonfinite = -1;
  if (threadIdx.x == 0) *row = all;
}

} // namespace

extern "C" int compare_grid(int64_t count, int multiprocessors) {
  const Launch launch = {nullptr, multiprocessors};
  return grid_size(launch, count, BLOCK * VECTOR, WAVES);
}

extern "C" cudaError_t launch_finish_compare(Launch launch, Comparison *row, const Comparison *partials, int count) {
  finish_compare_kernel<<<1, BLOCK, 0, launch.stream>>>(row, partials, count);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_compare(Launch launch, const ComparePlan *plan, Comparison *row) {
  const int grid = compare_grid(plan->count, launch.multiprocessors);
  if (grid > 0) compare_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return launch_finish_compare(launch, row, plan->partials, grid);
}
