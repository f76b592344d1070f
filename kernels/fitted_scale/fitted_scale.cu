/* Fitted scales: core/formats/fit.h. Elements are read once and held in registers, for the statistics and then for every
 * candidate: those of a short block by up to 16 lanes, those of a part of a long one by a thread block. Of blocks in
 * several parts, thread blocks leave what their parts add up to, and a block's sums follow from these. */
#include "fitted_scale/fitted_scale.h"

#include "fitted_scale/rounding.cuh"
#include "fitted_scale/scales.cuh"

namespace {

enum { THREADS = 128, THREADS_LOOKING_UP = 512, FINISHING = FIT_LANES };
enum { PART_THREADS = FIT_LANES / FIT_EIGHT, PART_EIGHTS = FIT_PART / FIT_LANES, PART_WARPS = PART_THREADS / WARP };
enum { FEW = FITTED_FEW_PARTS };

/* --- blocks of up to FIT_SHORT elements, by 2^lane_bits lanes that have EIGHTS eights each --- */

/* All lanes of the thread block together; those beyond the last block have nothing to do. find_upper is for scales in E4M3. */
template <typename Scalar, bool GRID, int EIGHTS, typename F>
__device__ inline void fit_short(const FittedPlan &plan, const Rounding<GRID> &rounding, int64_t block, int lane_bits,
                                 F find_upper) {
  const int lanes = 1 << lane_bits, lane = threadIdx.x & (lanes - 1);
  const auto sum_of_group = [&](auto add) {
    auto sum = sum_of_eights<decltype(add(0.0f, 0, 0)), EIGHTS>(add);
    for (int mask = lanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    return sum;
  };
  const bool exists = block < plan.blocks;
  const Tile tile = tile_at(plan, block);
  const int count = exists ? (int)tile.count : 0;
  Held<EIGHTS> held;
  load<Scalar, GRID>(plan, tile, 0, FIT_EIGHT * lane, FIT_EIGHT * lanes, count, held);
  const UpperScale upper = find_upper();
  for (int mask = lanes / 2; mask > 0; mask /= 2) held.largest = max(held.largest, shuffle_xor(held.largest, mask));
  const FitSums sums = statistics_of(plan, held, sum_of_group);
  const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, count);
  const float unit = fit_unit(sums.largest);
  if (unit != 1.0f) held.multiply(unit);
  const float best = chosen_scale(plan, upper, magnitude, [&](float scale, int i, float least) {
    const bool cuts = i > 0 && plan.fit.factor[i] < 1.0f;
    if (cuts && !__any_sync(all_lanes, rounding.may_have_less(sums.largest, scale, unit, least))) return INFINITY;
    return rounding.error_of(held, sums.largest, scale, unit, sum_of_group,
                             [&](int v, int k) { return FIT_EIGHT * (lane + v * lanes) + k < count; });
  });
  if (lane == 0 && exists) plan.scale[block] = best;
}

template <typename Scalar, int EIGHTS>
__global__ void __launch_bounds__(THREADS, 8)
    short_fits_kernel(const __grid_constant__ FittedPlan plan, int lane_bits) {
  __shared__ UpperScale shared_upper;
  typename Rounding<true>::Stage stage;
  const int64_t block = global_thread() >> lane_bits;
  fit_short<Scalar, true, EIGHTS>(plan, Rounding<true>(stage, plan), block, lane_bits, [&] {
    if (!uses_upper(plan)) return UpperScale();
    if (plan.quantize.upper_each > 0) return upper_at(plan, min(block, plan.blocks - 1));
    if (threadIdx.x < WARP) shared_upper = upper_at(plan, 0);
    __syncthreads();
    return shared_upper;
  });
}

/* Of maps, with thread blocks that stay. */
template <typename Scalar, int EIGHTS>
__global__ void __launch_bounds__(THREADS_LOOKING_UP, 2)
    short_map_fits_kernel(const __grid_constant__ FittedPlan plan, int lane_bits) {
  __shared__ typename Rounding<false>::Stage stage;
  const Rounding<false> rounding(stage, plan);
  const UpperScale upper = upper_at(plan, 0);
  for (int64_t first = blockIdx.x * THREADS_LOOKING_UP; first >> lane_bits < plan.blocks; first += global_threads()) {
    const int64_t block = (first + threadIdx.x) >> lane_bits;
    fit_short<Scalar, false, EIGHTS>(plan, rounding, block, lane_bits, [&] {
      return plan.quantize.upper_each > 0 ? upper_at(plan, min(block, plan.blocks - 1)) : upper;
    });
  }
}

/* --- parts of longer blocks, by a thread block --- */

struct PartSums {
  uint32_t largest[PART_WARPS];
  double squares[PART_WARPS], magnitudes[PART_WARPS];
  float error[FIT_CANDIDATES_MOST][PART_WARPS];
};

template <typename T> __device__ inline T sum_of_warps(const T (&of_warp)[PART_WARPS]) {
  T sum = of_warp[0];
  for (int i = 1; i < PART_WARPS; i++) sum += of_warp[i];
  return sum;
}

template <typename Scalar, bool GRID>
__device__ inline int load_part(const FittedPlan &plan, const Tile &tile, int64_t begin, Held<PART_EIGHTS> &held) {
  const int count = (int)max(min(tile.count - begin, (int64_t)FIT_PART), (int64_t)0);
  load<Scalar, GRID>(plan, tile, begin, FIT_EIGHT * threadIdx.x, FIT_LANES, count, held);
  return count;
}

/* Of a part, for the whole thread block. */
__device__ inline FitSums sums_of_part(const FittedPlan &plan, const Held<PART_EIGHTS> &held, PartSums &shared) {
  FitSums sums = statistics_of(plan, held, [&](auto add) { return sum_of_lanes<double, PART_EIGHTS>(add); });
  sums.largest = largest_of_warp(sums.largest);
  if (threadIdx.x % WARP == 0) {
    shared.largest[threadIdx.x / WARP] = sums.largest;
    shared.squares[threadIdx.x / WARP] = sums.squares;
    shared.magnitudes[threadIdx.x / WARP] = sums.magnitudes;
  }
  __syncthreads();
  for (int i = 0; i < PART_WARPS; i++) sums.largest = max(sums.largest, shared.largest[i]);
  if (!fit_is_summing(&plan.fit)) return sums;
  sums.squares = sum_of_warps(shared.squares);
  sums.magnitudes = sum_of_warps(shared.magnitudes);
  return sums;
}

/* The errors of all candidates, for the whole thread block, in `shared`. */
template <bool GRID>
__device__ inline void add_errors(const FittedPlan &plan, const Rounding<GRID> &rounding, const UpperScale &upper,
                                  uint32_t magnitude, uint32_t largest, int count, Held<PART_EIGHTS> &held,
                                  PartSums &shared) {
  const float unit = fit_unit(largest);
  if (unit != 1.0f) held.multiply(unit);
  for (int i = 0; i < plan.fit.candidates; i++) {
    const float error = rounding.error_of(
        held, largest, candidate_scale(plan, upper, magnitude, i), unit,
        [&](auto add) { return sum_of_lanes<float, PART_EIGHTS>(add); },
        [&](int v, int k) { return FIT_EIGHT * (int)threadIdx.x + v * FIT_LANES + k < count; });
    if (threadIdx.x % WARP == 0) shared.error[i][threadIdx.x / WARP] = error;
  }
  __syncthreads();
}

/* As parts are added up, of at most FEW of them. */
__device__ inline double sum_of_few(const double (&of_part)[FEW]) {
  double sum[FEW];
#pragma unroll
  for (int i = 0; i < FEW; i++) sum[i] = of_part[i];
#pragma unroll
  for (int half = FEW / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  }
  return sum[0];
}

/* Blocks of one part, or of up to FEW, which are read once more for the errors. */
template <typename Scalar, bool GRID, bool ONE>
__global__ void __launch_bounds__(PART_THREADS, 8) part_fits_kernel(const __grid_constant__ FittedPlan plan) {
  __shared__ typename Rounding<GRID>::Stage stage;
  __shared__ PartSums shared;
  __shared__ double few[FIT_CANDIDATES_MOST][FEW];
  const Rounding<GRID> rounding(stage, plan);
  const int parts = ONE ? 1 : (int)plan.parts;
  if (!ONE) {
    for (int i = threadIdx.x; i < FIT_CANDIDATES_MOST * FEW; i += PART_THREADS) (&few[0][0])[i] = 0;
    __syncthreads();
  }
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    const Tile tile = tile_at(plan, block);
    Held<PART_EIGHTS> held;
    int count = 0;
    FitSums sums = {0, 0, 0};
    for (int part = 0; part < parts; part++) {
      count = load_part<Scalar, GRID>(plan, tile, (int64_t)part * FIT_PART, held);
      const FitSums own = sums_of_part(plan, held, shared);
      if (ONE) {
        sums = own;
        break;
      }
      sums.largest = max(sums.largest, own.largest);
      if (threadIdx.x == 0) {
        few[0][part] = own.squares;
        few[1][part] = own.magnitudes;
      }
      __syncthreads();
    }
    if (!ONE && fit_is_summing(&plan.fit)) {
      sums.squares = sum_of_few(few[0]);
      sums.magnitudes = sum_of_few(few[1]);
      __syncthreads();
    }
    const UpperScale upper = uses_upper(plan) ? upper_at(plan, block) : UpperScale();
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, tile.count);
    for (int part = 0; part < parts && plan.fit.candidates > 1; part++) {
      if (!ONE) count = load_part<Scalar, GRID>(plan, tile, (int64_t)part * FIT_PART, held);
      add_errors(plan, rounding, upper, magnitude, sums.largest, count, held, shared);
      if (ONE) break;
      if ((int)threadIdx.x < plan.fit.candidates) few[threadIdx.x][part] = sum_of_warps(shared.error[threadIdx.x]);
      __syncthreads();
    }
    if (threadIdx.x < WARP) {
      const float best = chosen_scale(plan, upper, magnitude, [&](float, int i, double) {
        return ONE ? (double)sum_of_warps(shared.error[i]) : sum_of_few(few[i]);
      });
      if (threadIdx.x == 0) plan.scale[block] = best;
    }
    if (!ONE || plan.fit.candidates < 2) __syncthreads(); /* before sums are written again */
  }
}

/* --- blocks in several parts --- */

template <typename Scalar>
__global__ void __launch_bounds__(PART_THREADS, 8) part_sums_kernel(const __grid_constant__ FittedPlan plan) {
  __shared__ PartSums shared;
  for (int64_t i = blockIdx.x; i < plan.blocks * plan.parts; i += gridDim.x) {
    const int64_t block = divide(i, plan.parts);
    Held<PART_EIGHTS> held;
    load_part<Scalar, true>(plan, tile_at(plan, block), (i - block * plan.parts) * FIT_PART, held);
    const FitSums sums = sums_of_part(plan, held, shared);
    if (threadIdx.x == 0) plan.sums[i] = sums;
    __syncthreads();
  }
}

/* What parts leave `step` apart, as fit.h adds it; thread 0's. */
template <typename T> __device__ inline double sum_of_parts(const T *from, int64_t step, int64_t parts) {
  __shared__ double lane[FINISHING];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts; i += FINISHING) sum += (double)from[i * step];
  __syncthreads();
  lane[threadIdx.x] = sum;
  for (int half = FINISHING / 2; half >= WARP; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < half) lane[threadIdx.x] = sum = sum + lane[threadIdx.x + half];
  }
  return threadIdx.x < WARP ? combine_across<WARP>(sum, [](double a, double b) { return a + b; }) : 0;
}

__global__ void __launch_bounds__(FINISHING) part_magnitudes_kernel(const __grid_constant__ FittedPlan plan) {
  constexpr int64_t step = sizeof(FitSums) / sizeof(double);
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    const FitSums *from = plan.sums + block * plan.parts;
    FitSums sums = {0, 0, 0};
    for (int64_t i = threadIdx.x; i < plan.parts; i += FINISHING) sums.largest = max(sums.largest, from[i].largest);
    sums.largest = combine_across<FINISHING>(sums.largest, [](uint32_t a, uint32_t b) { return max(a, b); });
    if (plan.fit.root_mean_square != 0) sums.squares = sum_of_parts(&from->squares, step, plan.parts);
    if (plan.fit.mean_magnitude != 0) sums.magnitudes = sum_of_parts(&from->magnitudes, step, plan.parts);
    if (threadIdx.x > 0) continue;
    const uint32_t magnitude = fitted_magnitude(&plan.fit, &sums, tile_at(plan, block).count);
    plan.magnitudes[2 * block] = magnitude;
    plan.magnitudes[2 * block + 1] = sums.largest;
    if (!plan.errors) plan.scale[block] = candidate_scale(plan, upper_at(plan, block), magnitude, 0);
  }
}

template <typename Scalar, bool GRID>
__global__ void __launch_bounds__(PART_THREADS, 8) part_errors_kernel(const __grid_constant__ FittedPlan plan) {
  __shared__ typename Rounding<GRID>::Stage stage;
  __shared__ PartSums shared;
  const Rounding<GRID> rounding(stage, plan);
  for (int64_t i = blockIdx.x; i < plan.blocks * plan.parts; i += gridDim.x) {
    const int64_t block = divide(i, plan.parts), part = i - block * plan.parts;
    Held<PART_EIGHTS> held;
    const int count = load_part<Scalar, GRID>(plan, tile_at(plan, block), part * FIT_PART, held);
    const uint32_t magnitude = plan.magnitudes[2 * block], largest = plan.magnitudes[2 * block + 1];
    add_errors(plan, rounding, upper_at(plan, block), magnitude, largest, count, held, shared);
    if ((int)threadIdx.x < plan.fit.candidates) {
      plan.errors[(block * FIT_CANDIDATES_MOST + threadIdx.x) * plan.parts + part] =
          sum_of_warps(shared.error[threadIdx.x]);
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(FINISHING) chosen_scale_kernel(const __grid_constant__ FittedPlan plan) {
  for (int64_t block = blockIdx.x; block < plan.blocks; block += gridDim.x) {
    const float *errors = plan.errors + block * plan.parts * FIT_CANDIDATES_MOST;
    const float best = chosen_scale(plan, upper_at(plan, block), plan.magnitudes[2 * block], [&](float, int i, double) {
      return sum_of_parts(errors + i * plan.parts, 1, plan.parts);
    });
    if (threadIdx.x == 0) plan.scale[block] = best;
  }
}

/* --- launching --- */

template <typename Scalar, bool GRID, int EIGHTS> void run_short(Launch launch, const FittedPlan &plan) {
  int lane_bits = 0;
  while ((EIGHTS * FIT_EIGHT << lane_bits) < plan.length) lane_bits++;
  const int64_t lanes = plan.blocks << lane_bits;
  if (GRID) {
    const int grid = (int)divide_up(lanes, (int64_t)THREADS);
    short_fits_kernel<Scalar, EIGHTS><<<grid, THREADS, 0, launch.stream>>>(plan, lane_bits);
    return;
  }
  const auto kernel = short_map_fits_kernel<Scalar, EIGHTS>;
  const int grid =
      resident_grid((const void *)kernel, launch, THREADS_LOOKING_UP, divide_up(lanes, (int64_t)THREADS_LOOKING_UP));
  kernel<<<grid, THREADS_LOOKING_UP, 0, launch.stream>>>(plan, lane_bits);
}

template <typename Scalar, bool GRID> void run_parts(Launch launch, const FittedPlan &plan) {
  const int parts = grid_size(launch, plan.blocks * plan.parts, 1, GRID ? 32 : 8),
            blocks = grid_size(launch, plan.blocks, 1, 16);
  part_sums_kernel<Scalar><<<parts, PART_THREADS, 0, launch.stream>>>(plan);
  part_magnitudes_kernel<<<blocks, FINISHING, 0, launch.stream>>>(plan);
  if (!plan.errors) return;
  part_errors_kernel<Scalar, GRID><<<parts, PART_THREADS, 0, launch.stream>>>(plan);
  chosen_scale_kernel<<<blocks, FINISHING, 0, launch.stream>>>(plan);
}

template <typename Scalar, bool GRID> void run(Launch launch, const FittedPlan &plan) {
  if (plan.length <= 2 * FIT_EIGHT) {
    run_short<Scalar, GRID, 2>(launch, plan);
  } else if (plan.length <= FIT_SHORT) {
    run_short<Scalar, GRID, 4>(launch, plan);
  } else if (plan.parts <= FEW) {
    const int grid = grid_size(launch, plan.blocks, 1, GRID ? 64 : 8);
    const auto kernel = plan.parts == 1 ? part_fits_kernel<Scalar, GRID, true> : part_fits_kernel<Scalar, GRID, false>;
    kernel<<<grid, PART_THREADS, 0, launch.stream>>>(plan);
  } else {
    run_parts<Scalar, GRID>(launch, plan);
  }
}

} // namespace

extern "C" cudaError_t launch_fitted_scale(Launch launch, const FittedPlan *plan) {
  with_scalar(plan->quantize.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (plan->quantize.grid.bits > 0 || plan->fit.candidates < 2) { /* without errors there is nothing to round */
      run<Scalar, true>(launch, *plan);
    } else {
      run<Scalar, false>(launch, *plan);
    }
  });
  return cudaGetLastError();
}
