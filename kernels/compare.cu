/* What quantizing did to a tensor, in one pass over it and what it became: every thread counts and sums elements a grid
 * apart, thread blocks leave one Comparison each, and a last thread block adds those up. The order never depends on
 * timing. Sums are double throughout: squares of small gradients leave float32's range. */
#include <float.h>

#include "common.cuh"

namespace {

enum { BLOCK = 256, VECTOR = 4, WAVES = 4 };

__device__ inline double larger_or_nan(double a, double b) { return b > a || b != b ? b : a; }

/* Those of neighbouring threads; `first` is a position, or count if there is none. */
__device__ Comparison across_block(Comparison all) {
  const auto sum = [](int64_t a, int64_t b) { return a + b; };
  const auto double_sum = [](double a, double b) { return a + b; };
  all.count = combine_across<BLOCK>(all.count, sum);
  all.zeros = combine_across<BLOCK>(all.zeros, sum);
  all.nonfinite = combine_across<BLOCK>(all.nonfinite, sum);
  all.underflow = combine_across<BLOCK>(all.underflow, sum);
  all.saturated = combine_across<BLOCK>(all.saturated, sum);
  all.first_nonfinite = combine_across<BLOCK>(all.first_nonfinite, [](int64_t a, int64_t b) { return a < b ? a : b; });
  all.sum = combine_across<BLOCK>(all.sum, double_sum);
  all.square_sum = combine_across<BLOCK>(all.square_sum, double_sum);
  all.error_square_sum = combine_across<BLOCK>(all.error_square_sum, double_sum);
  all.absmax = combine_across<BLOCK>(all.absmax, larger_or_nan);
  all.relative_error = combine_across<BLOCK>(all.relative_error, larger_or_nan);
  return all;
}

/* What a thread has seen so far. */
struct Tally {
  uint32_t count, zeros, nonfinite, underflow, saturated;
  int64_t first_nonfinite;
  float absmax, relative_error;
  double sum, square_sum, error_square_sum;
};

__device__ inline void take(Tally &all, float x, float value, float low, float high, int64_t position) {
  all.count++;
  if (!(fabsf(x) <= FLT_MAX)) {
    all.nonfinite++;
    if (position < all.first_nonfinite) all.first_nonfinite = position;
    return;
  }
  const bool outside = x > high || x < low;
  const float error = x - value;
  all.zeros += x == 0;
  all.saturated += outside;
  all.underflow += x != 0 && value == 0 && !outside;
  all.sum += x;
  all.square_sum += (double)x * x;
  all.error_square_sum += (double)error * error;
  all.absmax = fmaxf(all.absmax, fabsf(x));
  const float ratio = x == 0 || value == 0 ? 0 : fabsf(error) / fabsf(x);
  if (ratio > all.relative_error || ratio != ratio) all.relative_error = ratio; /* NaN stays */
}

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
  Tally all = {};
  all.first_nonfinite = INT64_MAX;
  const int64_t vectors = plan.vectorize ? plan.count / VECTOR : 0;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) take_vector<VECTOR>(all, plan, i * VECTOR);
  for (int64_t i = vectors * VECTOR + global_thread(); i < plan.count; i += global_threads()) {
    take_vector<1>(all, plan, i);
  }
  Comparison mine = {all.count,         all.zeros, all.nonfinite,  all.first_nonfinite,  all.underflow,
                     all.saturated,     all.sum,   all.square_sum, all.error_square_sum, all.absmax,
                     all.relative_error};
  mine = across_block(mine);
  if (threadIdx.x == 0) plan.partials[blockIdx.x] = mine;
}

__global__ void __launch_bounds__(BLOCK) finish_compare_kernel(Comparison *row, const Comparison *partials, int count) {
  Comparison all = {};
  all.first_nonfinite = INT64_MAX;
  for (int i = threadIdx.x; i < count; i += BLOCK) {
    const Comparison part = partials[i];
    all.count += part.count;
    all.zeros += part.zeros;
    all.nonfinite += part.nonfinite;
    all.underflow += part.underflow;
    all.saturated += part.saturated;
    if (part.first_nonfinite < all.first_nonfinite) all.first_nonfinite = part.first_nonfinite;
    all.sum += part.sum;
    all.square_sum += part.square_sum;
    all.error_square_sum += part.error_square_sum;
    all.absmax = larger_or_nan(all.absmax, part.absmax);
    all.relative_error = larger_or_nan(all.relative_error, part.relative_error);
  }
  all = across_block(all);
  if (all.nonfinite == 0) all.first_nonfinite = -1;
  if (threadIdx.x == 0) *row = all;
}

} // namespace

extern "C" int compare_grid(int64_t count, int multiprocessors) {
  const Launch launch = {nullptr, multiprocessors};
  return grid_size(launch, count, BLOCK * VECTOR, WAVES);
}

extern "C" cudaError_t launch_compare(Launch launch, const ComparePlan *plan, Comparison *row) {
  const int grid = compare_grid(plan->count, launch.multiprocessors);
  if (grid > 0) compare_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  finish_compare_kernel<<<1, BLOCK, 0, launch.stream>>>(row, plan->partials, grid);
  return cudaGetLastError();
}
