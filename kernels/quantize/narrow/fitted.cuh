/* Scales of a patch that are fitted: core/formats/fit.h. A lane has 16 rows of two neighbouring columns, or 32 columns of a
 * row, in its registers for the statistics and for every candidate: two blocks, or a part of them, or one. */
#ifndef FP8_NARROW_FITTED_CUH
#define FP8_NARROW_FITTED_CUH

#include "quantize/narrow/fitted.h"
#include "quantize/narrow/scales.cuh"

namespace {

enum { HELD_EIGHTS = 4 };

/* Magnitudes, and which lanes have others of the same blocks: those whose numbers differ in the bits from `least` to
 * `most`. */
struct HeldEights {
  float x[HELD_EIGHTS][FIT_EIGHT];
  int least, most;
  bool joined; /* one block, not two of two eights each */
};

/* Or the compiler would unpack elements for every candidate. */
__device__ inline void keep(HeldEights &held) {
#pragma unroll
  for (int v = 0; v < HELD_EIGHTS; v++) {
#pragma unroll
    for (int k = 0; k < FIT_EIGHT; k++) asm volatile("" : "+f"(held.x[v][k]));
  }
}

/* Where a lane's blocks are in the patch: the first row and column, and the first of its factors. */
struct HeldPlace {
  int row, column, factors;
};

/* Of two elements; without the compiler's knowing, which would do it again to each of them. */
__device__ inline uint32_t magnitudes_of(uint32_t word) {
  asm("and.b32 %0, %0, 0x7FFF7FFF;" : "+r"(word));
  return word;
}

/* --- sums --- */

/* Of the eights of both blocks, as short blocks are added up. */
template <typename Sum>
__device__ inline void sum_blocks(const HeldEights &held, Sum (&sum)[HELD_EIGHTS], Sum (&of_block)[2]) {
#pragma unroll 1
  for (int step = held.most; step >= held.least; step /= 2) {
#pragma unroll
    for (int v = 0; v < HELD_EIGHTS; v++) sum[v] += shuffle_xor(sum[v], step);
  }
  of_block[0] = held.joined ? (sum[0] + sum[2]) + (sum[1] + sum[3]) : sum[0] + sum[1];
  of_block[1] = held.joined ? of_block[0] : sum[2] + sum[3];
}

template <typename Sum, typename F>
__device__ inline void sum_of_blocks(const HeldEights &held, Sum (&of_block)[2], const F &add) {
  Sum sum[HELD_EIGHTS] = {};
#pragma unroll
  for (int k = 0; k < FIT_EIGHT; k++) {
#pragma unroll
    for (int v = 0; v < HELD_EIGHTS; v++) sum[v] = add(sum[v], v, k);
  }
  sum_blocks(held, sum, of_block);
}

/* A magnitude of 16 bits as a float64: what is left of its bits is that times 2^-896, of the smallest ones, too. */
__device__ inline double widen(float x) { return __hiloint2double((int)(float_to_bits(x) >> 3), 0) * 0x1p896; }

/* fitted_magnitude of means instead of sums. */
__device__ __noinline__ float magnitude_of_means(const FitRule &rule, double squares, double magnitudes,
                                                 float largest) {
  const FitSums sums = {squares, magnitudes, float_to_bits(largest)};
  return float_from_bits(fitted_magnitude(&rule, &sums, 1));
}

/* What counts in place of the blocks' absmaxima; `count`: the elements of a block, a power of two. */
__device__ inline void find_magnitudes(const FitRule &rule, const HeldEights &held, int count,
                                       const float (&largest)[2], float (&magnitude)[2]) {
  double squares[2] = {0, 0}, magnitudes[2] = {0, 0};
  if (rule.root_mean_square != 0) {
    sum_of_blocks(held, squares, [&](double sum, int v, int k) {
      const double x = widen(held.x[v][k]);
      return fma(x, x, sum);
    });
  }
  if (rule.mean_magnitude != 0) {
    sum_of_blocks(held, magnitudes, [&](double sum, int v, int k) { return sum + widen(held.x[v][k]); });
  }
  const double share = __hiloint2double((1023 - exponent_of(count)) << 20, 0);
#pragma unroll
  for (int k = 0; k < 2; k++) {
    magnitude[k] = k > 0 && held.joined
                       ? magnitude[0]
                       : magnitude_of_means(rule, squares[k] * share, magnitudes[k] * share, largest[k]);
  }
}

/* --- candidates --- */

__device__ __noinline__ float other_candidate(const FitRule &fit, const ScaleRule &rule, const UpperScale &upper,
                                              float magnitude, int i) {
  return fitted_scale(&fit, i, &rule, &upper, float_to_bits(magnitude));
}

/* What a kernel is for: candidates of an absmax whose scales are in E4M3 or not rounded, or all that there is. */
enum Fitting { PLAIN_CANDIDATES, ANY_FIT };

/* fitted_scale; with PLAIN_CANDIDATES of magnitudes that is_plain is true of. */
template <Fitting FITTING>
__device__ inline void candidate_scales(const ScaleRule &rule, const FittedWay &fit, const UpperScale &upper,
                                        const float (&magnitude)[2], int i, bool joined, float (&scale)[2]) {
  if (FITTING == ANY_FIT) {
    scale[0] = other_candidate(fit.rule, rule, upper, magnitude[0], i);
    scale[1] = joined ? scale[0] : other_candidate(fit.rule, rule, upper, magnitude[1], i);
    return;
  }
  const float factor = fit.rule.factor[i];
  float product[2];
#pragma unroll
  for (int k = 0; k < 2; k++) product[k] = fminf(magnitude[k] * factor, FLT_MAX);
  if (rule.rounding == SCALE_EXACT) {
    const float inverse = reciprocal(rule.largest);
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const float quotient = product[k] * inverse;
      scale[k] = __fmaf_rn(__fmaf_rn(-rule.largest, quotient, product[k]), inverse, quotient);
    }
    return;
  }
  float stored[2];
#pragma unroll
  for (int k = 0; k < 2; k++) stored[k] = product[k] * upper.encode;
  Encoder<ENCODING_E4M3>::numbers(Encoder<ENCODING_E4M3>::pair(stored[0], stored[1]), stored[0], stored[1]);
#pragma unroll
  for (int k = 0; k < 2; k++) {
    scale[k] = upper.direct ? stored[k] * upper.absmax * upper.inverse_most : stored[k] * upper.decode;
  }
}

/* The errors that scales leave. CUTS: numbers may lie beyond the format's largest. */
template <bool CUTS>
__device__ inline void find_errors(const FitGrid &grid, const HeldEights &held, const float (&scale)[2],
                                   const float (&inverse)[2], float (&error)[2]) {
  float cap[2], larger_inverse[2];
#pragma unroll
  for (int k = 0; k < 2; k++) {
    cap[k] = grid.limit * scale[k];
    larger_inverse[k] = inverse[k] * grid.factor;
  }
  sum_of_blocks(held, error, [&](float sum, int v, int i) {
    const int k = v / 2;
    const float x = held.x[v][i], cut = CUTS ? fminf(x, cap[k]) : x;
    const float own = fit_error(x, fit_rounded(&grid, cut, inverse[k], larger_inverse[k]), scale[k]);
    return fmaf(own, own, sum);
  });
}

/* The best scales of blocks of any magnitudes. A whole warp together, as all that follows. */
__device__ __noinline__ float2 choose_rare_scales(const ScaleRule &rule, const FittedWay &fit, const UpperScale &upper,
                                                  HeldEights held, float2 largest, float2 magnitude) {
  const uint32_t bits[2] = {float_to_bits(largest.x), float_to_bits(largest.y)};
  const float unit[2] = {fit_unit(bits[0]), fit_unit(bits[1])};
  float best[2] = {0, 0}, least[2] = {0, 0};
#pragma unroll
  for (int v = 0; v < HELD_EIGHTS; v++) {
#pragma unroll
    for (int k = 0; k < FIT_EIGHT; k++) held.x[v][k] *= unit[v / 2];
  }
  int i = 0;
  do {
    float scale[2], in_units[2], inverse[2], error[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
      scale[k] = other_candidate(fit.rule, rule, upper, k == 0 ? magnitude.x : magnitude.y, i);
      in_units[k] = scale[k] * unit[k];
      inverse[k] = fit_inverse(in_units[k]);
    }
    find_errors<true>(fit.grid, held, in_units, inverse, error);
#pragma unroll
    for (int k = 0; k < 2; k++) {
      if (unit[k] < 1.0f && fit_overflows(&fit.grid, bits[k], unit[k], scale[k])) error[k] = INFINITY;
      if (i == 0 || error[k] < least[k]) {
        best[k] = scale[k];
        least[k] = error[k];
      }
    }
  } while (++i < fit.rule.candidates);
  return make_float2(best[0], best[1]);
}

/* Whether fit_unit is 1 and the block not empty. */
__device__ inline bool is_plain(float largest) { return largest >= 0x1p-50f && largest < 0x1p51f; }

/* The best scales; false where one of them may not be usual. */
template <Fitting FITTING>
__device__ inline bool choose_scales(const WayPlan &way, const FittedWay &fit, const UpperScale &upper,
                                     const HeldEights &held, const float (&largest)[2], float (&best)[2]) {
  const ScaleRule &rule = way.quantize.rule;
  const int candidates = fit.rule.candidates;
  float magnitude[2] = {largest[0], largest[1]}, least[2] = {INFINITY, INFINITY};
  float lowest[2] = {1, 1}, highest[2] = {1, 1};
  if (FITTING == ANY_FIT && fit_is_summing(&fit.rule)) {
    find_magnitudes(fit.rule, held, way.tile_rows * way.tile_columns, largest, magnitude);
  }
  int i = 0;
#pragma unroll 1
  do {
    float scale[2], inverse[2], error[2] = {0, 0};
    candidate_scales<FITTING>(rule, fit, upper, magnitude, i, held.joined, scale);
    bool beyond = false, less = false;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      inverse[k] = reciprocal(scale[k]);
      lowest[k] = fminf(lowest[k], scale[k]);
      highest[k] = fmaxf(highest[k], scale[k]);
      beyond = beyond || largest[k] * inverse[k] > fit.bound;
    }
    if (i > 0 && fit.rule.factor[i] < 1.0f) {
#pragma unroll
      for (int k = 0; k < 2; k++) less = less || fit_may_have_less(largest[k], fit.grid.limit, scale[k], least[k]);
      if (!__any_sync(all_lanes, less)) continue;
    }
    if (FITTING == PLAIN_CANDIDATES || candidates > 1) {
      if (__any_sync(all_lanes, beyond)) {
        find_errors<true>(fit.grid, held, scale, inverse, error);
      } else {
        find_errors<false>(fit.grid, held, scale, inverse, error);
      }
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
      if (!(error[k] >= least[k])) { /* NaN where the scales of all candidates are the same */
        best[k] = scale[k];
        least[k] = error[k];
      }
    }
  } while (++i < candidates);
  bool plain = true, usual = true;
#pragma unroll
  for (int k = 0; k < 2; k++) {
    const bool own = is_plain(largest[k]) && is_usual(lowest[k]) && is_usual(highest[k]);
    plain = plain && own && best[k] == best[k];
    usual = usual && (own || largest[k] == 0);
  }
  if (__all_sync(all_lanes, plain)) return true;
  if (__any_sync(all_lanes, !usual)) {
    const float2 rare = choose_rare_scales(rule, fit, upper, held, make_float2(largest[0], largest[1]),
                                           make_float2(magnitude[0], magnitude[1]));
    best[0] = rare.x;
    best[1] = rare.y;
  }
  return false;
}

/* Of a known scale: numbers of blocks whose scale is 0 or NaN count as 0, which has no sign then. */
__device__ __noinline__ float rare_inverse(float scale, float largest) {
  const bool empty = scale_is_empty(scale);
  return empty ? 0.0f : largest == 0 && !is_usual(scale) ? 1.0f : 1.0f / scale;
}

/* Whether quantize_vector has to round a block: not where all that is unusual is that it has zeros alone. */
__device__ inline bool is_left_to_vectors(const QuantizePlan &plan, float scale, float largest) {
  if (scale_is_empty(scale)) return scale != 0 || !plan.map;
  return largest != 0 && !is_usual(scale);
}

/* --- what a lane holds --- */

/* 32 columns of a row. */
template <typename Scalar, int TEAM>
__device__ inline HeldPlace hold_row(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage, int turn,
                                     HeldEights &held, float (&largest)[2]) {
  const int lane = threadIdx.x % WARP, half = lane % 2;
  const int row = number_in_team<TEAM>() * WARP_ROWS + 16 * turn + lane / 2, turned = turn_of(row);
  uint4 x[4];
#pragma unroll
  for (int v = 0; v < 4; v++) x[v] = stage.vector[row][(4 * half + v) ^ turned];
  if (way.hadamard.length > 0) {
    transform_half<Scalar>(way.hadamard, state, x);
#pragma unroll
    for (int v = 0; v < 4; v++) stage.vector[row][(4 * half + v) ^ turned] = x[v];
  }
  held.joined = way.tile_columns > GROUP;
  held.least = 2;
  held.most = way.tile_rows; /* two lanes a row, half of the rows apart */
#pragma unroll
  for (int k = 0; k < 2; k++) {
    uint32_t words = 0;
#pragma unroll
    for (int v = 2 * k; v < 2 * k + 2; v++) {
      x[v] = make_uint4(magnitudes_of(x[v].x), magnitudes_of(x[v].y), magnitudes_of(x[v].z), magnitudes_of(x[v].w));
      words = __vmaxu2(__vmaxu2(__vmaxu2(__vmaxu2(words, x[v].x), x[v].y), x[v].z), x[v].w);
      unpack<Scalar>(x[v], held.x[v]);
    }
    largest[k] = float_from_bits(magnitude_bits(words, Scalar()));
  }
  for (int step = held.most; step >= held.least; step /= 2) {
#pragma unroll
    for (int k = 0; k < 2; k++) largest[k] = larger_magnitude(largest[k], shuffle_xor(largest[k], step));
  }
  if (held.joined) largest[0] = largest[1] = larger_magnitude(largest[0], largest[1]);
  return {row, 32 * half, row * (PATCH_COLUMNS / GROUP) + 2 * half};
}

/* Sixteen rows of two columns. */
template <typename Scalar, int TEAM>
__device__ inline HeldPlace hold_columns(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage, int turn,
                                         HeldEights &held, float (&largest)[2]) {
  uint32_t x[GROUP];
  const ColumnPlace place = take_columns<Scalar>(way, state, stage, turn, x);
  held.joined = false;
  held.least = place.beside;
  held.most = place.beside * (way.tile_rows >> 4) / 2;
  uint32_t words = 0;
#pragma unroll
  for (int j = 0; j < GROUP; j++) {
    x[j] = magnitudes_of(x[j]);
    words = __vmaxu2(words, x[j]);
    unpack_word(x[j], Scalar(), held.x[j / 8][j % 8], held.x[2 + j / 8][j % 8]);
  }
  for (int step = held.most; step >= held.least; step /= 2) words = __vmaxu2(words, shuffle_xor(words, step));
  unpack_word(words, Scalar(), largest[0], largest[1]);
  return {place.row, 2 * place.word, factors_at(place)};
}

/* As scale_rows and scale_columns. */
template <typename Scalar, Fitting FITTING, int TEAM>
__device__ inline void fit_scales(const WayPlan &way, const FittedWay &fit, const PatchState &state,
                                  PatchStage<TEAM> &stage, int64_t first_row, int64_t first_column,
                                  Findings &findings) {
#pragma unroll 1
  for (int turn = 0; turn < 2; turn++) {
    HeldEights held;
    float largest[2], best[2];
    const HeldPlace place = way.tile_columns > 1 ? hold_row<Scalar>(way, state, stage, turn, held, largest)
                                                 : hold_columns<Scalar>(way, state, stage, turn, held, largest);
    keep(held);
    const bool plain = choose_scales<FITTING>(way, fit, state.upper, held, largest, best);
    float inverse[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
      inverse[k] = plain ? reciprocal(best[k]) : rare_inverse(best[k], largest[k]);
      if (!plain && is_left_to_vectors(way.quantize, best[k], largest[k])) findings.rare = 1;
      findings.most = fmaxf(findings.most, largest[k] * inverse[k]);
      findings.largest_scale = fmaxf(findings.largest_scale, best[k]);
    }
    *reinterpret_cast<float4 *>(&stage.factors[place.factors]) = make_float4(inverse[0], best[0], inverse[1], best[1]);
    if (way.quantize.scale && (place.row & (way.tile_rows - 1)) == 0) {
      const int64_t down = (first_row + place.row) >> exponent_of(way.tile_rows);
      const int64_t across = (first_column + place.column) >> exponent_of(way.tile_columns);
      float *scale = way.quantize.scale + down * way.tiles_across + across;
      scale[0] = best[0];
      if (!held.joined) scale[1] = best[1];
    }
  }
}

} // namespace

#endif
