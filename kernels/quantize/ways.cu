/* Quantization in small blocks, of x or of its Hadamard transform: in runs of a row or of a column, or in small tiles; by
 * numbers' exponents, without a table. One read of x serves two ways, such as those of the products that sum over its
 * columns and over its rows.
 *
 * A warp has a patch of the matrix to itself (warp_patches.cuh): largest magnitudes go by shuffles, and of shared memory each
 * warp has its own. A scale above those of blocks takes a pass before, which leaves largest magnitudes in memory, and brings
 * the sums of columns. */
#include "quantize/narrow/narrow.h"
#include "quantize/warp_patches.cuh"
#include "quantize/ways_nearest.cuh"
#include "quantize/ways_state.cuh"
#include "quantize/ways_vector.cuh"

namespace {

/* What a warp's lanes quantize, one vector after the other, and the factors for that. Loops over rows are not unrolled, or
 * the instructions of a kernel would be more than the cache for them holds. */
struct Stage {
  uint4 vector[ROWS][WARP];
  float2 factors[ROWS][WARP];
};
static_assert(vector_width<BFloat16> <= ROWS, "a factor for each row or column");

/* --- one way of a patch --- */

/* What a whole thread block knows of it. */
struct WayState {
  UpperScale upper;
  RandomSource random;
  uint32_t negative[HADAMARD_MOST / 32];
};

__device__ inline uint32_t largest_of(uint32_t magnitude, int first, int end) {
  for (int step = first; step < end; step *= 2) magnitude = max(magnitude, shuffle_xor(magnitude, step));
  return magnitude;
}

/* Lanes that have the same tiles share the work of their factors: `count` of them, `step` apart. */
struct Sharing {
  int own, count, first; /* a lane's number among them, and the first lane */
  __device__ Sharing(int among, int step) : own(threadIdx.x % WARP / step & (among - 1)), count(among) {
    first = threadIdx.x % WARP - own * step;
  }
};

/* The factors of the tiles with these magnitudes, to the first lane's place in the stage; and keep(k, scale) of those that
 * this lane finds. Whether one of these is rare or has an unusual scale. */
template <int N, typename Keep>
__device__ inline bool find_factors(const WayPlan &way, const UpperScale &upper, const Sharing &sharing,
                                    const uint32_t (&magnitude)[N], Stage &stage, const Keep &keep) {
  const int lane = threadIdx.x % WARP;
#pragma unroll
  for (int k = 0; k < N; k++) stage.factors[k][lane].x = float_from_bits(magnitude[k]);
  bool rare = false;
  __syncwarp();
#pragma unroll 1
  for (int k = sharing.own; k < N; k += sharing.count) {
    const Factors found = factors_of(way.quantize, upper, float_to_bits(stage.factors[k][lane].x));
    stage.factors[k][sharing.first] = make_float2(found.inverse, found.scale);
    keep(k, found.scale);
    rare = rare || is_rare(found) || !is_usual(found.scale);
  }
  __syncwarp();
  return rare;
}

__device__ inline Factors factors_at(const Stage &stage, int k, const Sharing &sharing) {
  const float2 found = stage.factors[k][sharing.first];
  return {found.x, found.y};
}

/* The largest magnitudes of the runs of a lane's rows, or that of its tile as the only one. */
template <typename Scalar>
__device__ inline void measure_tiles(const Patches<Scalar> &patches, const WayPlan &way, int segment,
                                     const uint4 (&x)[ROWS], uint32_t (&magnitude)[ROWS]) {
  if (way.tile_rows == 1 && elements<Scalar> == 2) { /* two rows' in a word */
    uint32_t both[ROWS / 2];
#pragma unroll
    for (int j = 0; j < ROWS; j += 2) {
      const uint32_t one = raise<Scalar>(0, x[j]), other = raise<Scalar>(0, x[j + 1]);
      both[j / 2] = __vmaxu2(__byte_perm(one, other, 0x5410), __byte_perm(one, other, 0x7632));
    }
    for (int step = 1; step < segment; step *= 2) {
#pragma unroll
      for (int j = 0; j < ROWS / 2; j++) both[j] = __vmaxu2(both[j], shuffle_xor(both[j], step));
    }
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      magnitude[j] = magnitude_bits(j % 2 ? both[j / 2] >> 16 : both[j / 2] & 0xFFFFu, Scalar());
    }
    return;
  }
  if (way.tile_rows == 1) {
#pragma unroll
    for (int j = 0; j < ROWS; j++) magnitude[j] = magnitude_bits(raise<Scalar>(0, x[j]), Scalar());
    for (int step = 1; step < segment; step *= 2) {
#pragma unroll
      for (int j = 0; j < ROWS; j++) magnitude[j] = max(magnitude[j], shuffle_xor(magnitude[j], step));
    }
    return;
  }
  uint32_t whole = 0;
#pragma unroll
  for (int j = 0; j < ROWS; j++) whole = raise<Scalar>(whole, x[j]);
  whole = largest_of(magnitude_bits(whole, Scalar()), 1, segment);
  magnitude[0] = largest_of(whole, patches.beside, patches.beside * way.tile_rows / ROWS);
#pragma unroll
  for (int j = 1; j < ROWS; j++) magnitude[j] = 0;
}

/* False for what is left to quantize_vector. */
template <typename Scalar, Rounding ROUNDING, typename Found>
__device__ inline bool rounds_patch(const WayPlan &way, RandomSource source, const Found &factors, bool rare, int have,
                                    const uint4 (&vector)[ROWS][WARP], int64_t columns, int64_t at) {
  if constexpr (ROUNDING != NEAREST) {
    return rounds_rows_at_random<Scalar, ROUNDING>(way, source, factors, rare, have, vector, columns, at);
  } else {
    return rounds_rows<Scalar>(way, factors, rare, have, vector, columns, at);
  }
}

/* Scales of rows' runs, or of tiles. */
template <typename Scalar, Rounding ROUNDING>
__device__ inline void quantize_tiles(const Patches<Scalar> &patches, const WayPlan &way, const WayState &state,
                                      const Place &place, const uint4 (&x)[ROWS], Stage &stage) {
  const bool runs = way.tile_rows == 1;
  const int segment = way.tile_columns / vector_width<Scalar>, have = patches.rows_of(place);
  const Sharing sharing(runs ? segment : 1, 1);
  uint32_t magnitude[ROWS];
  measure_tiles(patches, way, segment, x, magnitude);
  /* The tile's own rows, or the first one's, where this lane is the first that has them. */
  Place own = place;
  if (runs) own.column -= sharing.own * vector_width<Scalar>;
  const bool first = runs || ((place.across & (segment - 1)) == 0 && (place.row & (way.tile_rows - 1)) == 0);
  const int kept = way.quantize.scale && first ? patches.rows_of(own) : 0;
  float *scale = way.quantize.scale + (own.row >> exponent_of(way.tile_rows)) * way.tiles_across +
                 (own.column >> exponent_of(way.tile_columns));
  const auto keep = [&](int j, float of_row) {
    if (j < kept) scale[j * way.tiles_across] = of_row;
  };
  bool rare;
  if (runs) {
    rare = find_factors(way, state.upper, sharing, magnitude, stage, keep);
  } else {
    const uint32_t only[1] = {magnitude[0]};
    rare = find_factors(way, state.upper, sharing, only, stage, keep);
  }
  int64_t at = patches.element(place, 0);
  const auto found = [&](int j, int) { return factors_at(stage, runs ? j : 0, sharing); };
  if (rounds_patch<Scalar, ROUNDING>(way, state.random, found, rare, have, stage.vector, patches.columns, at)) return;
#pragma unroll 1
  for (int j = 0; j < have; j++, at += patches.columns) {
    const Factors factors[1] = {factors_at(stage, runs ? j : 0, sharing)};
    quantize_vector<Scalar, ROUNDING>(way, factors, is_rare(factors[0]), state.random,
                                      stage.vector[j][threadIdx.x % WARP], at);
  }
}

/* Scales of columns' runs. */
template <typename Scalar, Rounding ROUNDING>
__device__ inline void quantize_columns(const Patches<Scalar> &patches, const WayPlan &way, const WayState &state,
                                        const Place &place, const uint4 (&x)[ROWS], Stage &stage) {
  constexpr int width = vector_width<Scalar>, each = elements<Scalar>;
  const int have = patches.rows_of(place);
  const Sharing sharing(way.tile_rows / ROWS, patches.beside);
  uint32_t magnitude[width];
#pragma unroll
  for (int w = 0; w < WORDS; w++) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      uint4 vector = x[j];
      largest = raise<Scalar>(largest, word_of(vector, w));
    }
    for (int step = patches.beside; step < patches.beside * sharing.count; step *= 2) {
      largest = raise<Scalar>(largest, shuffle_xor(largest, step));
    }
    float of_word[each];
    unpack_elements(largest, Scalar(), of_word);
#pragma unroll
    for (int k = 0; k < each; k++) magnitude[w * each + k] = float_to_bits(of_word[k]);
  }
  const int64_t row = place.row - sharing.own * ROWS;
  const bool kept = way.quantize.scale && row < patches.rows && place.column < patches.columns;
  float *scale = way.quantize.scale + (row >> exponent_of(way.tile_rows)) * way.tiles_across + place.column;
  bool rare = find_factors(way, state.upper, sharing, magnitude, stage, [&](int k, float of_column) {
    if (kept) scale[k] = of_column;
  });
  Factors factors[width];
#pragma unroll
  for (int k = 0; k < width; k++) factors[k] = factors_at(stage, k, sharing);
  int64_t at = patches.element(place, 0);
  const auto found = [&](int, int k) { return factors[k]; };
  if (rounds_patch<Scalar, ROUNDING>(way, state.random, found, rare, have, stage.vector, patches.columns, at)) return;
#pragma unroll
  for (int k = 0; k < width; k++) rare = rare || is_rare(factors[k]);
#pragma unroll 1
  for (int j = 0; j < have; j++, at += patches.columns) {
    quantize_vector<Scalar, ROUNDING>(way, factors, rare, state.random, stage.vector[j][threadIdx.x % WARP], at);
  }
}

/* --- kernels --- */

/* The largest magnitude of a way's words, by way of a word for each warp; the whole thread block together. */
__device__ inline uint32_t largest_of_words(const WayPlan &way, uint32_t (&of_warps)[WARPS]) {
  const uint32_t of_warp = largest_of_warp(largest_of_share(way.maxima, way.maxima_count));
  if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = of_warp;
  __syncthreads();
  uint32_t magnitude = 0;
#pragma unroll
  for (int i = 0; i < WARPS; i++) magnitude = max(magnitude, of_warps[i]);
  return magnitude;
}

/* What the whole thread block knows of its ways; all of it together. */
__device__ inline void find_states(const WaysPlan &plan, WayState (&states)[WAYS_MOST]) {
  __shared__ uint32_t of_warps[WAYS_MOST][WARPS];
#pragma unroll 1
  for (int w = 0; w < plan.count; w++) {
    const WayPlan &way = plan.way[w];
    const uint32_t magnitude = way.maxima ? largest_of_words(way, of_warps[w]) : 0;
    if (threadIdx.x > 0) continue;
    states[w].upper = upper_of_way(way, magnitude);
    states[w].random = live_source(way, way.quantize.random);
    find_signs(way, states[w].negative);
  }
  __syncthreads();
}

/* The number of a warp's patch, which may be beyond the last. */
__device__ inline int64_t own_number() { return (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP; }

/* Its place; with last_first, backwards: after a pass over the whole tensor its end is still in the cache. Beyond the last
 * patch, no rows. */
template <typename Scalar> __device__ inline Place own_place(const Patches<Scalar> &patches, bool last_first) {
  const int64_t count = patches.count(), i = own_number();
  Place place = patches.at(last_first && i < count ? count - 1 - i : i);
  if (i >= count) place.row = patches.rows;
  return place;
}

template <typename Scalar, Rounding ROUNDING>
__device__ inline void quantize_way(const Patches<Scalar> &patches, const WayPlan &way, const WayState &state,
                                    const Place &place, const uint4 (&x)[ROWS], Stage &stage) {
#pragma unroll
  for (int j = 0; j < ROWS; j++) stage.vector[j][threadIdx.x % WARP] = x[j];
  if (way.tile_columns == 1) {
    quantize_columns<Scalar, ROUNDING>(patches, way, state, place, x, stage);
  } else {
    quantize_tiles<Scalar, ROUNDING>(patches, way, state, place, x, stage);
  }
}

/* A patch for each warp: while some wait for theirs, others work. */
template <typename Scalar, Rounding ROUNDING, bool TRANSFORMS>
__global__ void __launch_bounds__(BLOCK, TRANSFORMS ? 5 : 6)
    quantize_ways_kernel(const __grid_constant__ WaysPlan plan) {
  __shared__ WayState states[WAYS_MOST];
  __shared__ Stage stages[WARPS];
  bool measured = false;
  for (int w = 0; w < plan.count; w++) measured = measured || plan.way[w].maxima;
  find_states(plan, states);
  Stage &stage = stages[threadIdx.x / WARP];
  const Patches<Scalar> patches(plan.rows, plan.columns, plan.down);
  if (own_number() >= patches.count()) return;
  const Place place = own_place(patches, measured);
#pragma unroll 1
  for (int w = 0; w < plan.count; w++) {
    const WayPlan &way = plan.way[w];
    uint4 x[ROWS];
    if (w > 0 && (!TRANSFORMS || plan.way[w - 1].hadamard.length == 0)) {
#pragma unroll
      for (int j = 0; j < ROWS; j++) x[j] = stage.vector[j][threadIdx.x % WARP];
    } else {
      patches.load(plan.x, place, x);
    }
    if (TRANSFORMS) transform(patches, way.hadamard, states[w].negative, place, x);
    quantize_way<Scalar, ROUNDING>(patches, way, states[w], place, x, stage);
    __syncwarp(); /* before factors are written again */
  }
}

enum { ONE_WAY_EACH = 6 };

/* One way without a transform: the patch is on its way while the rest is found out. */
template <typename Scalar, Rounding ROUNDING>
__global__ void __launch_bounds__(BLOCK, ONE_WAY_EACH) quantize_one_way_kernel(const __grid_constant__ WaysPlan plan) {
  __shared__ uint32_t of_warps[WARPS];
  __shared__ Stage stages[WARPS];
  const WayPlan &way = plan.way[0];
  const Patches<Scalar> patches(plan.rows, plan.columns, plan.down);
  const Place place = own_place(patches, way.maxima != nullptr);
  uint4 x[ROWS];
  patches.load(plan.x, place, x);
  WayState state = {};
  const uint32_t magnitude = way.maxima ? largest_of_words(way, of_warps) : 0;
  if (way.quantize.rule.rounding == SCALE_E4M3) state.upper = upper_of_way(way, magnitude);
  if (ROUNDING != NEAREST) state.random = live_source(way, way.quantize.random);
  if (own_number() >= patches.count()) return;
  quantize_way<Scalar, ROUNDING>(patches, way, state, place, x, stages[threadIdx.x / WARP]);
}

template <typename Scalar> __device__ inline void add_rows(const uint4 (&x)[ROWS], float (&sum)[vector_width<Scalar>]) {
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    float value[vector_width<Scalar>];
    unpack<Scalar>(x[j], value);
#pragma unroll
    for (int k = 0; k < vector_width<Scalar>; k++) sum[k] += value[k];
  }
}

/* A thread block's sums of columns become a row of `partials`. */
template <typename Scalar>
__device__ inline void write_sums(const Patches<Scalar> &patches, const Place &place,
                                  float (&sum)[vector_width<Scalar>], float *partials) {
  constexpr int width = vector_width<Scalar>;
  __shared__ float shared[WARPS][WARP * width];
#pragma unroll
  for (int k = 0; k < width; k++) {
    for (int step = patches.beside; step < WARP; step *= 2) sum[k] += shuffle_xor(sum[k], step);
    shared[threadIdx.x / WARP][place.across * width + k] = sum[k]; /* the same of all lanes below one another */
  }
  __syncthreads();
  const int64_t first = place.column - place.across * width;
  for (int i = threadIdx.x; i < patches.beside * width && first + i < patches.columns; i += BLOCK) {
    float total = shared[0][i];
    for (int warp = 1; warp < WARPS; warp++) total += shared[warp][i];
    partials[first + i] = total;
  }
}

enum { MEASURING_EACH = 4 };

/* A thread block keeps to a column of patches, of which its warps take every so manyth. */
template <typename Scalar, bool SUM>
__global__ void __launch_bounds__(BLOCK, MEASURING_EACH) measure_ways_kernel(const __grid_constant__ WaysPlan plan) {
  constexpr int width = vector_width<Scalar>;
  __shared__ uint32_t negative[WAYS_MOST][HADAMARD_MOST / 32];
  if (threadIdx.x < plan.count) find_signs(plan.way[threadIdx.x], negative[threadIdx.x]);
  __syncthreads();
  uint32_t largest[WAYS_MOST] = {};
  float sum[width] = {};
  const Patches<Scalar> patches(plan.rows, plan.columns, plan.down);
  const int64_t group = blockIdx.x / patches.across, column = blockIdx.x - group * patches.across;
  const int64_t groups = gridDim.x / patches.across;
  for (int64_t row = group * WARPS + threadIdx.x / WARP; row < patches.below; row += groups * WARPS) {
    const Place place = patches.at(row, column);
    uint4 x[ROWS];
    bool fresh = false, summed = false;
#pragma unroll 1
    for (int w = 0; w < plan.count; w++) {
      if (!plan.way[w].measures) continue;
      if (!fresh) patches.load(plan.x, place, x);
      fresh = plan.way[w].hadamard.length == 0;
      if (SUM && !summed) add_rows<Scalar>(x, sum);
      summed = true;
      transform(patches, plan.way[w].hadamard, negative[w], place, x);
      uint32_t of_patch = 0;
#pragma unroll
      for (int j = 0; j < ROWS; j++) of_patch = raise<Scalar>(of_patch, x[j]);
      if (w == 0) {
        largest[0] = raise<Scalar>(largest[0], of_patch);
      } else {
        largest[1] = raise<Scalar>(largest[1], of_patch);
      }
    }
  }
#pragma unroll
  for (int w = 0; w < WAYS_MOST; w++) {
    if (w < plan.count && plan.way[w].measures) {
      write_maximum<BLOCK>(plan.way[w].maxima, magnitude_bits(largest[w], Scalar()));
    }
  }
  if (SUM) write_sums(patches, patches.at(0, column), sum, plan.partials + group * plan.columns);
}

/* --- launching --- */

template <typename Scalar, Rounding ROUNDING> cudaError_t run(Launch launch, const WaysPlan &plan) {
  bool transforms = false;
  for (int i = 0; i < plan.count; i++) transforms = transforms || plan.way[i].hadamard.length > 0;
  const auto kernel = transforms       ? quantize_ways_kernel<Scalar, ROUNDING, true>
                      : plan.count > 1 ? quantize_ways_kernel<Scalar, ROUNDING, false>
                                       : quantize_one_way_kernel<Scalar, ROUNDING>;
  const Patches<Scalar> patches(plan.rows, plan.columns, plan.down);
  const unsigned grid = (unsigned)divide_up(patches.count(), (int64_t)WARPS);
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_measure(Launch launch, const WaysPlan &plan) {
  const auto kernel = plan.partials ? measure_ways_kernel<Scalar, true> : measure_ways_kernel<Scalar, false>;
  const Patches<Scalar> patches(plan.rows, plan.columns, plan.down);
  kernel<<<(int)(patches.across * plan.groups), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" bool quantizes_in_patches(const WaysPlan *plan) { return quantizes_narrow(*plan); }

extern "C" cudaError_t launch_quantize_ways(Launch launch, const WaysPlan *plan) {
  if (quantizes_narrow(*plan)) return launch_quantize_narrow(launch, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (!plan->way[0].quantize.stochastic) return run<Scalar, NEAREST>(launch, *plan);
    if (plan->way[0].quantize.powers.count > 0) return run<Scalar, TO_POWERS>(launch, *plan);
    return run<Scalar, STOCHASTIC>(launch, *plan);
  });
}

/* Groups for as many thread blocks as there is room for, of turns that are the same for all but the last. */
extern "C" int measure_ways_shape(Launch launch, WaysPlan *plan) {
  if (measures_narrow(*plan)) return measure_narrow_shape(launch, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) {
    constexpr int64_t longest_chain = 64;
    const Patches<decltype(scalar)> patches(plan->rows, plan->columns, plan->down);
    const int64_t turns = divide_up(patches.below, (int64_t)WARPS);
    const int64_t resident = (int64_t)launch.multiprocessors * MEASURING_EACH / patches.across;
    const int64_t chain = resident > 0 ? divide_up(turns, resident) : turns;
    plan->groups = (int)divide_up(turns, chain < longest_chain ? chain : longest_chain);
    return (int)(plan->groups * patches.across);
  });
}

extern "C" cudaError_t launch_measure_ways(Launch launch, const WaysPlan *plan) {
  if (measures_narrow(*plan)) return launch_measure_narrow(launch, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) { return run_measure<decltype(scalar)>(launch, *plan); });
}
