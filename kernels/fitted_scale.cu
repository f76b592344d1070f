/* Fitted scales: core/formats/fit.h. A warp or a thread block takes a block of the tensor at a time: its statistics, and
 * then a pass for each candidate; blocks that are read again are in a cache by then. Before that, many thread blocks find
 * the statistics of the parts of long blocks. Of the shortest blocks each thread holds one in registers. */
#include "fitted_scale.h"

#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 1024 };

/* A block as rows of neighbouring elements. */
struct Part {
  int64_t first, step; /* of rows */
  int64_t width, count;
};

__device__ inline Part part_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  Part part;
  if (plan.tile_rows == 0) {
    part.first = block * quantize.blocksize;
    part.width = part.count = min(quantize.blocksize, quantize.count - part.first);
    part.step = 0;
    return part;
  }
  const int64_t row = divide(block, plan.tiles_across) * plan.tile_rows;
  const int64_t column = block % plan.tiles_across * plan.tile_columns;
  part.first = row * plan.columns + column;
  part.step = plan.columns;
  part.width = min(plan.tile_columns, plan.columns - column);
  part.count = part.width * min(plan.tile_rows, plan.rows - row);
  return part;
}

/* Calls f(x) for the elements `begin` … of a part that are this lane's. */
template <typename Scalar, int LANES, typename F>
__device__ inline void for_each_element(const FittedPlan &plan, const Part &part, int64_t begin, F f) {
  const Scalar *x = static_cast<const Scalar *>(plan.quantize.x) + part.first;
  const int64_t end = min(begin + FIT_PART, part.count);
#pragma unroll 4
  for (int64_t i = begin + threadIdx.x % LANES; i < end; i += LANES) {
    const int64_t row = part.step == 0 ? 0 : divide(i, part.width);
    f(to_float(x[row * part.step + (i - row * part.width)]));
  }
}

template <int LANES> __device__ inline double sum_of_lanes(double value) {
  return combine_across<LANES>(value, [](double a, double b) { return a + b; });
}

template <typename Scalar, int LANES>
__device__ inline FitSums measure(const FittedPlan &plan, const Part &part, int64_t begin) {
  FitSums sums = {0, 0, 0};
  for_each_element<Scalar, LANES>(plan, part, begin, [&](float x) {
    sums.largest = max(sums.largest, float_to_bits(x) & 0x7FFFFFFFu);
    sums.squares += (double)x * (double)x;
    sums.magnitudes += fabs((double)x);
  });
  sums.largest = combine_across<LANES>(sums.largest, [](uint32_t a, uint32_t b) { return max(a, b); });
  if (plan.fit.root_mean_square == 0 && plan.fit.mean_magnitude == 0) return sums;
  sums.squares = sum_of_lanes<LANES>(sums.squares);
  sums.magnitudes = sum_of_lanes<LANES>(sums.magnitudes);
  return sums;
}

/* Of a whole block, whose parts may have been measured before. */
template <typename Scalar, int LANES>
__device__ inline FitSums measure_all(const FittedPlan &plan, const Part &part, int64_t block) {
  FitSums sums = {0, 0, 0};
  const int64_t parts = divide_up(part.count, (int64_t)FIT_PART);
  for (int64_t i = 0; i < parts; i++) {
    const FitSums next =
        plan.sums ? plan.sums[block * plan.parts + i] : measure<Scalar, LANES>(plan, part, i * FIT_PART);
    sums = fit_sums_with(&sums, &next);
  }
  return sums;
}

/* x - value with this scale. */
__device__ inline double error_at(const QuantizePlan &quantize, const BlockScaling &scaling, float x) {
  const float scaled = scaled_element(x, &scaling);
  if (quantize.grid.bits > 0) return (double)(x - grid_nearest(&quantize.grid, scaled) * scaling.scale);
  const uint8_t code = encode<ENCODING_ANY>(quantize, *quantize.map, scaled, false, 0);
  const float value = decode<ENCODING_ANY>(quantize, quantize.map ? quantize.map->value : nullptr, code);
  return (double)(x - value * scaling.scale);
}

/* Σ (x - value)² with this scale. */
template <typename Scalar, int LANES>
__device__ inline double error_of(const FittedPlan &plan, const Part &part, float scale) {
  const QuantizePlan &quantize = plan.quantize;
  const BlockScaling scaling = scaling_of<ENCODING_ANY>(quantize, scale);
  double sum = 0;
  for (int64_t begin = 0; begin < part.count; begin += FIT_PART) {
    double squares = 0;
    for_each_element<Scalar, LANES>(plan, part, begin, [&](float x) {
      const double error = error_at(quantize, scaling, x);
      squares += error * error;
    });
    sum += sum_of_lanes<LANES>(squares);
  }
  return sum;
}

__device__ inline UpperScale upper_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  if (!quantize.upper) return no_upper_scale(&quantize.rule);
  const int64_t i = quantize.upper_each > 0 ? divide(block, quantize.upper_each) : 0;
  return fitted_upper_scale(&plan.fit, &quantize.rule, quantize.upper[i]);
}

/* The candidate with the least error_with(scale). */
template <typename F>
__device__ inline float chosen_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude,
                                     F error_with) {
  const ScaleRule &rule = plan.quantize.rule;
  float best = fitted_scale(&plan.fit, 0, &rule, &upper, magnitude);
  const int candidates = best == best ? plan.fit.candidates : 0;
  double least = candidates > 1 ? error_with(best) : 0;
  for (int i = 1; i < candidates; i++) {
    const float scale = fitted_scale(&plan.fit, i, &rule, &upper, magnitude);
    const double error = error_with(scale);
    if (error < least) {
      best = scale;
      least = error;
    }
  }
  return best;
}

template <typename Scalar, int LANES>
__global__ void __launch_bounds__(BLOCK) fitted_scale_kernel(const __grid_constant__ FittedPlan plan) {
  constexpr int groups = LANES == WARP ? 8 : 1;
  int64_t block = (int64_t)blockIdx.x * groups + threadIdx.x / LANES;
  for (; block < plan.blocks; block += (int64_t)gridDim.x * groups) {
    const Part part = part_at(plan, block);
    const FitSums sums = measure_all<Scalar, LANES>(plan, part, block);
    const UpperScale upper = upper_at(plan, block);
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, part.count);
    const float best =
        chosen_scale(plan, upper, magnitude, [&](float scale) { return error_of<Scalar, LANES>(plan, part, scale); });
    if (threadIdx.x % LANES == 0) plan.scale[block] = best;
  }
}

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) part_sums_kernel(const __grid_constant__ FittedPlan plan) {
  for (int64_t i = blockIdx.x; i < plan.blocks * plan.parts; i += gridDim.x) {
    const Part part = part_at(plan, divide(i, plan.parts));
    const FitSums sums = measure<Scalar, BLOCK>(plan, part, i % plan.parts * FIT_PART);
    if (threadIdx.x == 0) plan.sums[i] = sums;
  }
}

enum { SHORT_THREADS = 128 };

/* As lanes are added, of which the first LENGTH have an element each. */
template <int LENGTH> __device__ inline double sum_of_held(double (&value)[LENGTH]) {
#pragma unroll
  for (int width = LENGTH / 2; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < width; i++) value[i] += value[i + width];
  }
  return value[0];
}

/* Blocks of up to LENGTH elements, one a thread. */
template <typename Scalar, int LENGTH>
__global__ void __launch_bounds__(SHORT_THREADS) short_fits_kernel(const __grid_constant__ FittedPlan plan) {
  const bool summing = plan.fit.root_mean_square != 0 || plan.fit.mean_magnitude != 0;
  for (int64_t block = global_thread(); block < plan.blocks; block += global_threads()) {
    const Part part = part_at(plan, block);
    const Scalar *from = static_cast<const Scalar *>(plan.quantize.x) + part.first;
    float x[LENGTH];
    double held[LENGTH];
    FitSums sums = {0, 0, 0};
    int row = 0, column = 0;
#pragma unroll
    for (int i = 0; i < LENGTH; i++) {
      x[i] = i < part.count ? to_float(from[row * part.step + column]) : 0.0f;
      sums.largest = max(sums.largest, float_to_bits(x[i]) & 0x7FFFFFFFu);
      if (++column == part.width) {
        column = 0;
        row++;
      }
    }
    if (summing) {
#pragma unroll
      for (int i = 0; i < LENGTH; i++) held[i] = (double)x[i] * (double)x[i];
      sums.squares = sum_of_held(held);
#pragma unroll
      for (int i = 0; i < LENGTH; i++) held[i] = fabs((double)x[i]);
      sums.magnitudes = sum_of_held(held);
    }
    const UpperScale upper = upper_at(plan, block);
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, part.count);
    plan.scale[block] = chosen_scale(plan, upper, magnitude, [&](float scale) {
      const BlockScaling scaling = scaling_of<ENCODING_ANY>(plan.quantize, scale);
#pragma unroll
      for (int i = 0; i < LENGTH; i++) {
        const double error = i < part.count ? error_at(plan.quantize, scaling, x[i]) : 0.0;
        held[i] = error * error;
      }
      return sum_of_held(held);
    });
  }
}

template <typename Scalar, int LENGTH> void run_short(Launch launch, const FittedPlan &plan) {
  const int grid = grid_size(launch, plan.blocks, SHORT_THREADS, 64);
  short_fits_kernel<Scalar, LENGTH><<<grid, SHORT_THREADS, 0, launch.stream>>>(plan);
}

} // namespace

extern "C" cudaError_t launch_fitted_scale(Launch launch, const FittedPlan *plan) {
  with_scalar(plan->quantize.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (plan->length <= 16) {
      run_short<Scalar, 16>(launch, *plan);
    } else if (plan->length <= 32) {
      run_short<Scalar, 32>(launch, *plan);
    } else if (plan->lanes == WARP) {
      const int grid = grid_size(launch, plan->blocks, 8, 64);
      fitted_scale_kernel<Scalar, WARP><<<grid, 8 * WARP, 0, launch.stream>>>(*plan);
    } else {
      const int grid = grid_size(launch, plan->blocks, 1, 16);
      if (plan->sums) {
        part_sums_kernel<Scalar>
            <<<grid_size(launch, plan->blocks * plan->parts, 1, 16), BLOCK, 0, launch.stream>>>(*plan);
      }
      fitted_scale_kernel<Scalar, BLOCK><<<grid, BLOCK, 0, launch.stream>>>(*plan);
    }
  });
  return cudaGetLastError();
}
