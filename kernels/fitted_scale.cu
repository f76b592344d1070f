/* Fitted scales: core/formats/fit.h. Elements are read once and held in registers, for the statistics and then for every
 * candidate: those of a short block by up to 16 lanes, those of a part of a long one by a thread block. Of blocks in
 * several parts, thread blocks leave what their parts add up to, and a block's sums follow from these. */
#include "fitted_scale.h"

#include "quantize/encode.cuh"
#include "vectors.cuh"

namespace {

enum { THREADS = 128, THREADS_LOOKING_UP = 512, FINISHING = FIT_LANES };
enum { PART_THREADS = FIT_LANES / FIT_EIGHT, PART_EIGHTS = FIT_PART / FIT_LANES, PART_WARPS = PART_THREADS / WARP };
enum { FEW = FITTED_FEW_PARTS };

/* A block as rows of neighbouring elements. */
struct Tile {
  int64_t first, step; /* of rows */
  int64_t width, count;
};

__device__ inline Tile tile_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  Tile tile;
  if (plan.tile_rows == 0) {
    tile.first = block * quantize.blocksize;
    tile.width = tile.count = plan.whole ? quantize.blocksize : min(quantize.blocksize, quantize.count - tile.first);
    tile.step = 0;
    return tile;
  }
  const int64_t down = divide(block, plan.tiles_across), across = block - down * plan.tiles_across;
  const int64_t row = down * plan.tile_rows, column = across * plan.tile_columns;
  tile.first = row * plan.columns + column;
  tile.step = plan.columns;
  tile.width = min(plan.tile_columns, plan.columns - column);
  tile.count = tile.width * min(plan.tile_rows, plan.rows - row);
  return tile;
}

/* Of element i, the first of an eight whose elements are neighbours. */
__device__ inline int64_t offset_in(const Tile &tile, int64_t i) {
  const int64_t row = divide(i, tile.width);
  return row * tile.step + (i - row * tile.width);
}

__device__ inline bool is_summing(const FitRule &fit) { return fit.root_mean_square != 0 || fit.mean_magnitude != 0; }

/* --- elements: magnitudes where the format has a grid --- */

/* So many eights of a block, with 0 after its last element. */
template <int EIGHTS> struct Held {
  float x[EIGHTS][FIT_EIGHT];
  uint32_t largest; /* of |x|, as bits */

  __device__ void multiply(float factor) {
#pragma unroll
    for (int v = 0; v < EIGHTS; v++) {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) x[v][k] *= factor;
    }
  }
};

/* The bits of the largest magnitude, the parts of a vector becoming numbers. */
template <typename Scalar, bool GRID> __device__ inline uint32_t take(uint4 raw, uint32_t largest, float *x) {
  constexpr int width = vector_width<Scalar>;
  float value[width];
  largest = raise<Scalar>(largest, raw);
  if (GRID) {
    constexpr uint32_t magnitudes = sizeof(Scalar) == 2 ? 0x7FFF7FFFu : 0x7FFFFFFFu;
    raw = make_uint4(raw.x & magnitudes, raw.y & magnitudes, raw.z & magnitudes, raw.w & magnitudes);
  }
  unpack<Scalar>(raw, value);
#pragma unroll
  for (int k = 0; k < width; k++) x[k] = value[k];
  return largest;
}

/* Eights that begin `begin`, begin + apart, … elements after `start` in a tile, of which `count` exist from there on. */
template <typename Scalar, bool GRID, int EIGHTS>
__device__ inline void load(const FittedPlan &plan, const Tile &tile, int64_t start, int begin, int apart, int count,
                            Held<EIGHTS> &held) {
  const Scalar *from = static_cast<const Scalar *>(plan.quantize.x) + tile.first;
  uint32_t largest = 0;
  if (plan.vectors) {
    constexpr int width = vector_width<Scalar>, vectors = FIT_EIGHT / width;
    uint4 raw[EIGHTS][vectors];
    const auto load_eight = [&](int v, const Scalar *at) {
#pragma unroll
      for (int i = 0; i < vectors; i++) {
        raw[v][i] = make_uint4(0, 0, 0, 0);
        if (begin + v * apart < count) raw[v][i] = reinterpret_cast<const uint4 *>(at)[i];
      }
    };
    if (plan.tile_rows == 0) {
      from += start + begin;
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + v * apart);
    } else if (const int64_t rows = divide(apart, tile.width); rows * tile.width == apart) {
      from += offset_in(tile, start + begin);
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + v * (rows * tile.step));
    } else {
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + offset_in(tile, start + begin + v * apart));
    }
#pragma unroll
    for (int v = 0; v < EIGHTS; v++) {
#pragma unroll
      for (int i = 0; i < vectors; i++) {
        largest = take<Scalar, GRID>(raw[v][i], largest, held.x[v] + i * width);
      }
    }
    held.largest = magnitude_bits(largest, Scalar());
    return;
  }
#pragma unroll
  for (int v = 0; v < EIGHTS; v++) {
    const int i = begin + v * apart;
    const bool narrow = tile.width == 1;
    const int64_t row = tile.step == 0 ? 0 : narrow ? start + i : divide(start + i, tile.width);
    int64_t column = start + i - row * tile.width;
    const Scalar *next = from + row * tile.step + column;
    Scalar element[FIT_EIGHT] = {};
    if (narrow && tile.step != 0) {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) {
        if (i + k < count) element[k] = next[k * tile.step];
      }
    } else {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) {
        if (i + k < count) element[k] = *next;
        const bool ends = ++column == tile.width;
        next += ends ? tile.step - tile.width + 1 : 1;
        column = ends ? 0 : column;
      }
    }
#pragma unroll
    for (int k = 0; k < FIT_EIGHT; k++) {
      const float value = to_float(element[k]);
      held.x[v][k] = GRID ? fabsf(value) : value;
      largest = max(largest, float_to_bits(value) & 0x7FFFFFFFu);
    }
  }
  held.largest = largest;
}

/* --- sums --- */

/* As short blocks are added up, of a lane's eights; add(sum, v, k) is the sum with element k of eight v. */
template <typename Sum, int EIGHTS, typename F> __device__ inline Sum sum_of_eights(F add) {
  Sum sum[EIGHTS];
#pragma unroll
  for (int v = 0; v < EIGHTS; v++) {
    sum[v] = 0;
#pragma unroll
    for (int k = 0; k < FIT_EIGHT; k++) sum[v] = add(sum[v], v, k);
  }
#pragma unroll
  for (int half = EIGHTS / 2; half > 0; half /= 2) {
#pragma unroll
    for (int v = 0; v < half; v++) sum[v] += sum[v + half];
  }
  return sum[0];
}

/* As lanes of a part are, by a warp. */
template <typename Sum, int EIGHTS, typename F> __device__ inline Sum sum_of_lanes(F add) {
  Sum sum[FIT_EIGHT];
#pragma unroll
  for (int k = 0; k < FIT_EIGHT; k++) {
    sum[k] = 0;
#pragma unroll
    for (int v = 0; v < EIGHTS; v++) sum[k] = add(sum[k], v, k);
  }
#pragma unroll
  for (int half = FIT_EIGHT / 2; half > 0; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; k++) sum[k] += sum[k + half];
  }
  return combine_across<WARP>(sum[0], [](Sum a, Sum b) { return a + b; });
}

/* The statistics that are wanted, by either of these. */
template <int EIGHTS, typename F>
__device__ inline FitSums statistics_of(const FittedPlan &plan, const Held<EIGHTS> &held, F sum_of) {
  FitSums sums = {0, 0, held.largest};
  if (plan.fit.root_mean_square != 0) {
    sums.squares = sum_of([&](double sum, int v, int k) {
      const double x = held.x[v][k];
      return fma(x, x, sum);
    });
  }
  if (plan.fit.mean_magnitude != 0) {
    sums.magnitudes = sum_of([&](double sum, int v, int k) { return sum + fabs((double)held.x[v][k]); });
  }
  return sums;
}

/* --- errors --- */

/* What rounds a candidate's elements, and adds up errors by sum_of; own(v, k): whether an element exists, for maps, whose
 * entries may be far from 0. */
template <bool GRID> struct Rounding;

template <> struct Rounding<true> {
  struct Stage {};
  FitGrid grid;
  float bound; /* scaled numbers up to this need no limit */

  __device__ Rounding(Stage &, const FittedPlan &plan) : grid(plan.grid), bound(plan.bound) {}

  template <int EIGHTS, typename F, typename Own>
  __device__ float error_of(const Held<EIGHTS> &held, uint32_t largest, float scale, float unit, F sum_of, Own) const {
    const float in_units = scale * unit, inverse = fit_inverse(in_units), larger_inverse = inverse * grid.factor;
    const bool within = float_from_bits(largest) * unit * inverse <= bound && unit >= 1.0f;
    if (__all_sync(all_lanes, within)) {
      return sum_of([&](float sum, int v, int k) {
        const float rounded = fit_rounded(&grid, held.x[v][k], inverse, larger_inverse);
        const float error = fit_error(held.x[v][k], rounded, in_units);
        return fmaf(error, error, sum);
      });
    }
    const float cap = grid.limit * in_units;
    const float sum = sum_of([&](float sum, int v, int k) {
      const float rounded = fit_rounded(&grid, fminf(held.x[v][k], cap), inverse, larger_inverse);
      const float error = fit_error(held.x[v][k], rounded, in_units);
      return fmaf(error, error, sum);
    });
    return unit < 1.0f && fit_overflows(&grid, largest, unit, scale) ? INFINITY : sum;
  }
};

template <> struct Rounding<false> {
  /* The entries have so many copies side by side, a lane keeping to one: fewer lanes meet in a bank. */
  enum { COPIES = 8 };
  struct Stage {
    LookupStage lookup;
    float value[MAP_SIZE * COPIES];
  };
  const MapTable *map;
  const float *value;
  const uint32_t *origin;
  int shift;
  float factor, low, high;
  bool looks_up;

  /* The whole thread block together. */
  __device__ Rounding(Stage &stage, const FittedPlan &plan) : map(plan.quantize.map), looks_up(plan.looks_up) {
    for (int i = threadIdx.x; i < MAP_SIZE * COPIES; i += blockDim.x) stage.value[i] = map->value[i / COPIES];
    const Encoder<ENCODING_MAP> encoder(stage.lookup, map);
    origin = encoder.origin;
    value = stage.value + threadIdx.x % COPIES;
    shift = encoder.shift;
    factor = encoder.factor;
    low = fmaxf(encoder.value[0], -plan.quantize.rule.limit);
    high = fminf(encoder.value[MAP_SIZE - 1], plan.quantize.rule.limit);
  }

  __device__ float error(float x, float inverse, float scale) const {
    const float scaled = fminf(fmaxf(x * inverse, low), high);
    const uint32_t code =
        looks_up ? lookup_word(origin, shift, factor, scaled) >> 24 : map_nearest(map->midpoint, map->start, scaled);
    return fit_error(x, value[code * COPIES], scale);
  }

  template <int EIGHTS, typename F, typename Own>
  __device__ float error_of(const Held<EIGHTS> &held, uint32_t, float scale, float unit, F sum_of, Own own) const {
    scale *= unit;
    const float inverse = fit_inverse(scale);
    if (__all_sync(all_lanes, own(EIGHTS - 1, FIT_EIGHT - 1))) {
      return sum_of([&](float sum, int v, int k) {
        const float own_error = error(held.x[v][k], inverse, scale);
        return fmaf(own_error, own_error, sum);
      });
    }
    return sum_of([&](float sum, int v, int k) {
      const float own_error = own(v, k) ? error(held.x[v][k], inverse, scale) : 0.0f;
      return fmaf(own_error, own_error, sum);
    });
  }
};

/* --- scales --- */

__device__ inline bool uses_upper(const FittedPlan &plan) { return plan.quantize.rule.rounding == SCALE_E4M3; }

/* Not inlined: the compiler would have all threads work out what few of them need. */
__device__ __noinline__ UpperScale upper_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  if (!quantize.upper) return no_upper_scale(&quantize.rule);
  const int64_t i = quantize.upper_each > 0 ? divide(block, quantize.upper_each) : 0;
  return fitted_upper_scale(&plan.fit, &quantize.rule, quantize.upper[i]);
}

__device__ __noinline__ float unusual_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude,
                                            int i) {
  return fitted_scale(&plan.fit, i, &plan.quantize.rule, &upper, magnitude);
}

/* fitted_scale, with the chip's conversions, and in few steps where most is as usual. */
__device__ inline float candidate_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, int i) {
  const ScaleRule &rule = plan.quantize.rule;
  if (!plan.usual || magnitude >= infinity_bits) return unusual_scale(plan, upper, magnitude, i);
  const float largest = fminf(float_from_bits(magnitude) * plan.fit.factor[i], FLT_MAX);
  if (rule.rounding == SCALE_EXACT) return largest / rule.largest;
  float stored, unused;
  Encoder<ENCODING_E4M3>::numbers(Encoder<ENCODING_E4M3>::pair(largest * upper.encode, 0.0f), stored, unused);
  const BlockScaling scaling = scaling_below(stored, &upper);
  return upper.encode == upper.encode ? scaling.scale : float_from_bits(nan_bits);
}

/* The first of candidates with the least error, error_of(scale, i); all lanes of a warp together. */
template <typename F>
__device__ inline float chosen_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, F error_of) {
  float best = 0;
  decltype(error_of(best, 0)) least = 0;
  int i = 0;
  do {
    const float scale = candidate_scale(plan, upper, magnitude, i);
    if (plan.fit.candidates < 2) return scale;
    const auto error = error_of(scale, i);
    if (i == 0 || error < least) {
      best = scale;
      least = error;
    }
  } while (++i < plan.fit.candidates);
  return best;
}

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
  const float best = chosen_scale(plan, upper, magnitude, [&](float scale, int) {
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
  sums.largest = combine_across<WARP>(sums.largest, [](uint32_t a, uint32_t b) { return max(a, b); });
  if (threadIdx.x % WARP == 0) {
    shared.largest[threadIdx.x / WARP] = sums.largest;
    shared.squares[threadIdx.x / WARP] = sums.squares;
    shared.magnitudes[threadIdx.x / WARP] = sums.magnitudes;
  }
  __syncthreads();
  for (int i = 0; i < PART_WARPS; i++) sums.largest = max(sums.largest, shared.largest[i]);
  if (!is_summing(plan.fit)) return sums;
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
    if (!ONE && is_summing(plan.fit)) {
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
      const float best = chosen_scale(plan, upper, magnitude, [&](float, int i) {
        return ONE ? (double)sum_of_warps(shared.error[i]) : sum_of_few(few[i]);
      });
      if (threadIdx.x == 0) plan.scale[block] = best;
    }
    if (!ONE) __syncthreads();
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
    const float best = chosen_scale(plan, upper_at(plan, block), plan.magnitudes[2 * block],
                                    [&](float, int i) { return sum_of_parts(errors + i * plan.parts, 1, plan.parts); });
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
