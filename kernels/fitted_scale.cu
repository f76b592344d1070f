/* Fitted scales: core/formats/fit.h. Elements are read once and held in registers, for the statistics and then for every
 * candidate: the shortest blocks by a thread each, longer ones by a warp or a thread block. Of blocks in several parts,
 * thread blocks leave what their parts add up to, and a block's sums follow from these. */
#include "fitted_scale.h"

#include "quantize/encode.cuh"
#include "vectors.cuh"

namespace {

/* HELD: elements that a lane holds. */
enum { BLOCK = 1024, HELD = FIT_PART / BLOCK, SHORT_THREADS = 128, WARPS = BLOCK / WARP };

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
  const int64_t down = divide(block, plan.tiles_across), across = block - down * plan.tiles_across;
  const int64_t row = down * plan.tile_rows, column = across * plan.tile_columns;
  part.first = row * plan.columns + column;
  part.step = plan.columns;
  part.width = min(plan.tile_columns, plan.columns - column);
  part.count = part.width * min(plan.tile_rows, plan.rows - row);
  return part;
}

__device__ inline bool is_summing(const FitRule &fit) { return fit.root_mean_square != 0 || fit.mean_magnitude != 0; }

/* --- errors --- */

/* x - value with this scale. */
__device__ inline double error_at(const QuantizePlan &quantize, const BlockScaling &scaling, float x) {
  const float scaled = scaled_element(x, &scaling);
  if (quantize.grid.bits > 0) return (double)(x - grid_nearest(&quantize.grid, scaled) * scaling.scale);
  const uint8_t code = encode<ENCODING_ANY>(quantize, *quantize.map, scaled, false, 0);
  return (double)(x - quantize.map->value[code] * scaling.scale);
}

/* f of x -> x - value: in few instructions where the format has a grid and elements are multiplied. All are finite. */
template <typename F> __device__ inline double with_errors(const QuantizePlan &quantize, float scale, F f) {
  BlockScaling scaling = block_scaling(scale, 1.0f / scale, quantize.map && quantize.divide);
  scaling.limit = quantize.rule.limit;
  if (quantize.grid.bits == 0 || scaling.divide) return f([&](float x) { return error_at(quantize, scaling, x); });
  const float inverse = scaling.empty ? 0.0f : scaling.inverse, limit = scaling.limit;
  const FormatGrid grid = quantize.grid;
  return f([=](float x) {
    const float scaled = fminf(fmaxf(x * inverse, -limit), limit);
    return (double)(x - grid_nearest(&grid, scaled) * scale);
  });
}

/* --- scales --- */

__device__ inline UpperScale upper_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  if (!quantize.upper) return no_upper_scale(&quantize.rule);
  const int64_t i = quantize.upper_each > 0 ? divide(block, quantize.upper_each) : 0;
  return fitted_upper_scale(&plan.fit, &quantize.rule, quantize.upper[i]);
}

/* fitted_scale, with the chip's conversions. */
__device__ inline float candidate_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, int i) {
  const ScaleRule &rule = plan.quantize.rule;
  if (rule.rounding != SCALE_E4M3 || magnitude >= infinity_bits || upper.encode != upper.encode) {
    return fitted_scale(&plan.fit, i, &rule, &upper, magnitude);
  }
  const float largest = float_from_bits(fitted_candidate(&plan.fit, i, magnitude));
  float stored, unused;
  Encoder<ENCODING_E4M3>::numbers(Encoder<ENCODING_E4M3>::pair(largest * upper.encode, 0.0f), stored, unused);
  const BlockScaling scaling = scaling_below(stored, &upper);
  return scaling.scale;
}

/* The first of candidates with the least error, error_of(scale, i). */
template <typename F>
__device__ inline float chosen_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, F error_of) {
  float best = candidate_scale(plan, upper, magnitude, 0);
  const int candidates = best == best ? plan.fit.candidates : 0;
  double least = candidates > 1 ? error_of(best, 0) : 0;
  for (int i = 1; i < candidates; i++) {
    const float scale = candidate_scale(plan, upper, magnitude, i);
    const double error = error_of(scale, i);
    if (error < least) {
      best = scale;
      least = error;
    }
  }
  return best;
}

/* --- blocks of up to LENGTH elements, one a thread --- */

template <typename Scalar, int LENGTH>
__device__ inline void load_short(const FittedPlan &plan, const Part &part, float (&x)[LENGTH]) {
  constexpr int width = vector_width<Scalar>;
  const Scalar *from = static_cast<const Scalar *>(plan.quantize.x) + part.first;
  if (part.width == LENGTH && part.count == LENGTH && reinterpret_cast<uintptr_t>(from) % sizeof(uint4) == 0) {
#pragma unroll
    for (int i = 0; i < LENGTH; i += width) {
      float value[width];
      unpack<Scalar>(reinterpret_cast<const uint4 *>(from)[i / width], value);
#pragma unroll
      for (int k = 0; k < width; k++) x[i + k] = value[k];
    }
    return;
  }
  int column = 0;
#pragma unroll
  for (int i = 0; i < LENGTH; i++) {
    x[i] = i < part.count ? to_float(from[column]) : 0.0f;
    if (++column == part.width) {
      column = 0;
      from += part.step;
    }
  }
}

/* As lanes are added, of which the first LENGTH have an element each; pair(i) is the sum of i and i + LENGTH / 2. */
template <int LENGTH, int STEP = 1, typename F> __device__ inline double tree_of(int i, F pair) {
  if constexpr (STEP == LENGTH / 2) {
    return pair(i);
  } else {
    return tree_of<LENGTH, 2 * STEP>(i, pair) + tree_of<LENGTH, 2 * STEP>(i + STEP, pair);
  }
}

/* value² + sum: rounded once with or without FMA, since values are float32 numbers. */
__device__ inline double plus_square(double value, double sum) { return fma(value, value, sum); }

template <typename Scalar, int LENGTH>
__global__ void __launch_bounds__(SHORT_THREADS) short_fits_kernel(const __grid_constant__ FittedPlan plan) {
  constexpr int half = LENGTH / 2;
  for (int64_t block = global_thread(); block < plan.blocks; block += global_threads()) {
    const Part part = part_at(plan, block);
    const int count = (int)part.count;
    float x[LENGTH];
    FitSums sums = {0, 0, 0};
    load_short<Scalar, LENGTH>(plan, part, x);
#pragma unroll
    for (int i = 0; i < LENGTH; i++) sums.largest = max(sums.largest, float_to_bits(x[i]) & 0x7FFFFFFFu);
    if (is_summing(plan.fit)) {
      sums.squares = tree_of<LENGTH>(0, [&](int i) { return plus_square(x[i + half], plus_square(x[i], 0)); });
      sums.magnitudes = tree_of<LENGTH>(0, [&](int i) { return fabs((double)x[i]) + fabs((double)x[i + half]); });
    }
    const UpperScale upper = upper_at(plan, block);
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, count);
    plan.scale[block] = chosen_scale(plan, upper, magnitude, [&](float scale, int) {
      return with_errors(plan.quantize, scale, [&](auto error) {
        return tree_of<LENGTH>(0, [&](int i) {
          const double first = i < count ? error(x[i]) : 0.0, second = i + half < count ? error(x[i + half]) : 0.0;
          return plus_square(second, plus_square(first, 0));
        });
      });
    });
  }
}

/* --- parts that LANES lanes hold --- */

/* This lane's elements of a part. */
struct Share {
  float x[HELD]; /* with 0 after the last */
  int count;     /* of all lanes */
};

template <typename Scalar, int LANES>
__device__ inline Share share_of(const FittedPlan &plan, const Part &part, int64_t begin) {
  const Scalar *from = static_cast<const Scalar *>(plan.quantize.x) + part.first;
  Share share;
  share.count = (int)min((int64_t)HELD * LANES, part.count - begin);
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int own = (int)threadIdx.x % LANES + k * LANES;
    share.x[k] = 0;
    if (own >= share.count) continue;
    const int64_t i = begin + own, row = part.step == 0 ? 0 : divide(i, part.width);
    share.x[k] = to_float(from[row * part.step + (i - row * part.width)]);
  }
  return share;
}

/* Of this lane alone. */
__device__ inline FitSums sums_of(const FittedPlan &plan, const Share &share) {
  FitSums sums = {0, 0, 0};
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    sums.largest = max(sums.largest, float_to_bits(share.x[k]) & 0x7FFFFFFFu);
    if (!is_summing(plan.fit)) continue;
    sums.squares = plus_square(share.x[k], sums.squares);
    sums.magnitudes += fabs((double)share.x[k]);
  }
  return sums;
}

template <int LANES> __device__ inline double error_of(const FittedPlan &plan, const Share &share, float scale) {
  return with_errors(plan.quantize, scale, [&](auto error) {
    double sum = 0;
#pragma unroll
    for (int k = 0; k < HELD; k++) {
      if (k * LANES >= share.count) break;
      const bool own = (int)threadIdx.x % LANES + k * LANES < share.count;
      sum = plus_square(own ? error(share.x[k]) : 0.0, sum);
    }
    return sum;
  });
}

__device__ inline uint32_t larger(uint32_t a, uint32_t b) { return max(a, b); }

__device__ inline double sum_of_warp(double value) {
  return combine_across<WARP>(value, [](double a, double b) { return a + b; });
}

/* What the warps of a thread block add up to, for several sums. */
struct WarpSums {
  double of_warp[FIT_CANDIDATES_MOST][WARPS], total[FIT_CANDIDATES_MOST];

  __device__ void put(int i, double value) {
    value = sum_of_warp(value);
    if (threadIdx.x % WARP == 0) of_warp[i][threadIdx.x / WARP] = value;
  }
  /* The whole thread block together; the totals are there for all until the next call. */
  __device__ void add(int sums) {
    __syncthreads();
    if ((int)threadIdx.x < sums) {
      double sum = of_warp[threadIdx.x][0];
      for (int i = 1; i < WARPS; i++) sum += of_warp[threadIdx.x][i];
      total[threadIdx.x] = sum;
    }
    __syncthreads();
  }
};

template <int LANES> __device__ inline FitSums sums_of_lanes(const FittedPlan &plan, FitSums sums, WarpSums &shared) {
  sums.largest = combine_across<LANES>(sums.largest, larger);
  if (!is_summing(plan.fit)) return sums;
  if (LANES == WARP) {
    sums.squares = sum_of_warp(sums.squares);
    sums.magnitudes = sum_of_warp(sums.magnitudes);
    return sums;
  }
  shared.put(0, sums.squares);
  shared.put(1, sums.magnitudes);
  shared.add(2);
  sums.squares = shared.total[0];
  sums.magnitudes = shared.total[1];
  return sums;
}

/* The errors of all candidates, as totals of a thread block; false where the scale is NaN. */
__device__ inline bool add_errors(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude,
                                  const Share &share, WarpSums &shared) {
  const float first = candidate_scale(plan, upper, magnitude, 0);
  if (first != first) return false;
  for (int i = 0; i < plan.fit.candidates; i++) {
    shared.put(i, error_of<BLOCK>(plan, share, candidate_scale(plan, upper, magnitude, i)));
  }
  shared.add(plan.fit.candidates);
  return true;
}

/* Blocks of at most HELD · LANES elements. */
template <typename Scalar, int LANES>
__global__ void __launch_bounds__(LANES == WARP ? 8 * WARP : BLOCK)
    fitted_scale_kernel(const __grid_constant__ FittedPlan plan) {
  constexpr int groups = LANES == WARP ? 8 : 1;
  __shared__ WarpSums shared;
  int64_t block = (int64_t)blockIdx.x * groups + threadIdx.x / LANES;
  for (; block < plan.blocks; block += (int64_t)gridDim.x * groups) {
    const Part part = part_at(plan, block);
    const Share share = share_of<Scalar, LANES>(plan, part, 0);
    const FitSums sums = sums_of_lanes<LANES>(plan, sums_of(plan, share), shared);
    const UpperScale upper = upper_at(plan, block);
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, part.count);
    if (LANES == BLOCK && plan.fit.candidates > 1) add_errors(plan, upper, magnitude, share, shared);
    const float best = chosen_scale(plan, upper, magnitude, [&](float scale, int i) {
      return LANES == WARP ? sum_of_warp(error_of<WARP>(plan, share, scale)) : shared.total[i];
    });
    if (threadIdx.x % LANES == 0) plan.scale[block] = best;
  }
}

/* --- blocks in several parts --- */

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) part_sums_kernel(const __grid_constant__ FittedPlan plan) {
  __shared__ WarpSums shared;
  for (int64_t i = blockIdx.x; i < plan.blocks * plan.parts; i += gridDim.x) {
    const int64_t block = divide(i, plan.parts);
    const Part part = part_at(plan, block);
    FitSums sums = {0, 0, 0};
    const int64_t begin = (i - block * plan.parts) * FIT_PART;
    if (begin < part.count) {
      sums = sums_of_lanes<BLOCK>(plan, sums_of(plan, share_of<Scalar, BLOCK>(plan, part, begin)), shared);
    }
    if (threadIdx.x == 0) plan.sums[i] = sums;
  }
}

/* sum += what is in `from`, `step` apart, one after the other: BLOCK at a time by way of shared memory. The sum is
 * thread 0's. */
__device__ inline double add_in_order(const double *from, int64_t step, int64_t count) {
  __shared__ double held[BLOCK];
  double sum = 0;
  for (int64_t first = 0; first < count; first += BLOCK) {
    const int n = (int)min((int64_t)BLOCK, count - first);
    __syncthreads();
    if ((int)threadIdx.x < n) held[threadIdx.x] = from[(first + threadIdx.x) * step];
    __syncthreads();
    if (threadIdx.x > 0) continue;
#pragma unroll 16
    for (int i = 0; i < n; i++) sum += held[i];
  }
  return sum;
}

__global__ void __launch_bounds__(BLOCK) part_magnitudes_kernel(const __grid_constant__ FittedPlan plan) {
  constexpr int64_t step = sizeof(FitSums) / sizeof(double);
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    const FitSums *from = plan.sums + block * plan.parts;
    FitSums sums = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < plan.parts; i += BLOCK) sums.largest = max(sums.largest, from[i].largest);
    sums.largest = combine_across<BLOCK>(sums.largest, larger);
    if (plan.fit.root_mean_square != 0) sums.squares = add_in_order(&from->squares, step, plan.parts);
    if (plan.fit.mean_magnitude != 0) sums.magnitudes = add_in_order(&from->magnitudes, step, plan.parts);
    if (threadIdx.x > 0) continue;
    plan.magnitudes[block] = fitted_magnitude(&plan.fit, &sums, part_at(plan, block).count);
    if (!plan.errors) plan.scale[block] = candidate_scale(plan, upper_at(plan, block), plan.magnitudes[block], 0);
  }
}

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) part_errors_kernel(const __grid_constant__ FittedPlan plan) {
  __shared__ WarpSums shared;
  for (int64_t i = blockIdx.x; i < plan.blocks * plan.parts; i += gridDim.x) {
    const int64_t block = divide(i, plan.parts), begin = (i - block * plan.parts) * FIT_PART;
    const Part part = part_at(plan, block);
    const bool found = begin < part.count && add_errors(plan, upper_at(plan, block), plan.magnitudes[block],
                                                        share_of<Scalar, BLOCK>(plan, part, begin), shared);
    if ((int)threadIdx.x < plan.fit.candidates) {
      plan.errors[i * FIT_CANDIDATES_MOST + threadIdx.x] = found ? shared.total[threadIdx.x] : 0;
    }
  }
}

__global__ void __launch_bounds__(BLOCK) chosen_scale_kernel(const __grid_constant__ FittedPlan plan) {
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    const double *errors = plan.errors + block * plan.parts * FIT_CANDIDATES_MOST;
    const float best = chosen_scale(plan, upper_at(plan, block), plan.magnitudes[block], [&](float, int i) {
      __shared__ double total;
      const double sum = add_in_order(errors + i, FIT_CANDIDATES_MOST, plan.parts);
      __syncthreads();
      if (threadIdx.x == 0) total = sum;
      __syncthreads();
      return total;
    });
    if (threadIdx.x == 0) plan.scale[block] = best;
  }
}

template <typename Scalar, int LENGTH> void run_short(Launch launch, const FittedPlan &plan) {
  const int grid = grid_size(launch, plan.blocks, SHORT_THREADS, 64);
  short_fits_kernel<Scalar, LENGTH><<<grid, SHORT_THREADS, 0, launch.stream>>>(plan);
}

template <typename Scalar> void run_parts(Launch launch, const FittedPlan &plan) {
  const int parts = grid_size(launch, plan.blocks * plan.parts, 1, 16), blocks = grid_size(launch, plan.blocks, 1, 16);
  part_sums_kernel<Scalar><<<parts, BLOCK, 0, launch.stream>>>(plan);
  part_magnitudes_kernel<<<blocks, BLOCK, 0, launch.stream>>>(plan);
  if (!plan.errors) return;
  part_errors_kernel<Scalar><<<parts, BLOCK, 0, launch.stream>>>(plan);
  chosen_scale_kernel<<<blocks, BLOCK, 0, launch.stream>>>(plan);
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
    } else if (plan->length <= FIT_PART) {
      const int grid = grid_size(launch, plan->blocks, 1, 16);
      fitted_scale_kernel<Scalar, BLOCK><<<grid, BLOCK, 0, launch.stream>>>(*plan);
    } else {
      run_parts<Scalar>(launch, *plan);
    }
  });
  return cudaGetLastError();
}
