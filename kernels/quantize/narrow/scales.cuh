/* Transforms and scales of a patch. */
#ifndef FP8_NARROW_SCALES_CUH
#define FP8_NARROW_SCALES_CUH

#include "quantize/narrow/transform.cuh"

namespace {

/* What a lane has found out about its blocks. */
struct Findings {
  int rare;   /* not 0: quantize_vector has to do it */
  float most; /* the largest scaled number */
  float largest_scale;
};

/* Rounded to nearest, of numbers between 2^-100 and 2^100. */
__device__ inline float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return __fmaf_rn(result, __fmaf_rn(-x, result, 1.0f), result);
}

__device__ __noinline__ float other_scale(const QuantizePlan &plan, uint32_t magnitude) {
  return scale_of(plan, magnitude);
}

__device__ __noinline__ Factors rare_factors(const QuantizePlan &plan, const UpperScale &upper, float magnitude) {
  return factors_of(plan, upper, float_to_bits(magnitude));
}

/* factors_of, in fewer instructions where it can be. Numbers of a block of zeros may be multiplied with any. */
__device__ inline void find_factors(const WayPlan &way, const PatchState &state, const float (&magnitude)[2],
                                    Factors (&found)[2], Findings &findings) {
  const QuantizePlan &plan = way.quantize;
  const UpperScale &upper = state.upper;
  const bool e4m3 = plan.rule.rounding == SCALE_E4M3;
  const bool mx = plan.rule.rounding == SCALE_MX && plan.rule.constant == 0 && plan.rule.headroom == 1;
  bool usual = magnitude[0] < INFINITY && magnitude[1] < INFINITY;
  if (e4m3) {
    float stored[2];
    Encoder<ENCODING_E4M3>::numbers(
        Encoder<ENCODING_E4M3>::pair(magnitude[0] * upper.encode, magnitude[1] * upper.encode), stored[0], stored[1]);
    usual = usual && state.ordinary;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const float divisor = stored[k] * upper.decode;
      found[k] = {reciprocal(divisor), upper.direct ? stored[k] * upper.absmax * upper.inverse_most : divisor};
      usual = usual && (stored[k] > 0 || magnitude[k] == 0);
    }
  } else {
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const uint32_t bits = float_to_bits(magnitude[k]);
      const float scale = mx ? scale_of_exponent((int32_t)(bits >> 23) - plan.rule.exponent) : other_scale(plan, bits);
      found[k] = {reciprocal(scale), scale};
      usual = usual && (is_usual(scale) || (mx && magnitude[k] == 0));
    }
  }
  if (!usual) {
    findings.rare = 1;
    for (int k = 0; k < 2; k++) found[k] = rare_factors(plan, upper, magnitude[k]);
  }
#pragma unroll
  for (int k = 0; k < 2; k++) {
    if (magnitude[k] == 0 && usual) found[k].inverse = 1.0f;
    findings.most = fmaxf(findings.most, magnitude[k] * found[k].inverse);
    findings.largest_scale = fmaxf(findings.largest_scale, found[k].scale);
  }
}

__device__ inline float larger_magnitude(float a, float b) {
  return float_from_bits(max(float_to_bits(a), float_to_bits(b)));
}

template <typename Scalar, int TEAM>
__device__ inline void scale_rows(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                  int64_t first_row, int64_t first_column, Findings &findings) {
  const int lane = threadIdx.x % WARP, half = lane % 2;
  const bool joined = way.tile_columns > GROUP;
#pragma unroll 1
  for (int row = number_in_team<TEAM>() * WARP_ROWS + lane / 2, i = 0; i < 2; i++, row += 16) {
    const int turn = turn_of(row);
    uint4 x[4];
#pragma unroll
    for (int k = 0; k < 4; k++) x[k] = stage.vector[row][(4 * half + k) ^ turn];
    if (way.hadamard.length > 0) {
      transform_half<Scalar>(way.hadamard, state, x);
#pragma unroll
      for (int k = 0; k < 4; k++) stage.vector[row][(4 * half + k) ^ turn] = x[k];
    }
    float magnitude[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const uint32_t largest = raise<Scalar>(raise<Scalar>(0, x[2 * k]), x[2 * k + 1]);
      magnitude[k] = float_from_bits(magnitude_bits(largest, Scalar()));
    }
#pragma unroll 1
    for (int step = 2; step < 2 * way.tile_rows; step *= 2) {
#pragma unroll
      for (int k = 0; k < 2; k++) magnitude[k] = larger_magnitude(magnitude[k], shuffle_xor(magnitude[k], step));
    }
    if (joined) magnitude[0] = magnitude[1] = larger_magnitude(magnitude[0], magnitude[1]);
    Factors found[2];
    find_factors(way, state, magnitude, found, findings);
    *reinterpret_cast<float4 *>(&stage.factors[row * (PATCH_COLUMNS / GROUP) + 2 * half]) =
        make_float4(found[0].inverse, found[0].scale, found[1].inverse, found[1].scale);
    if (way.quantize.scale && (row & (way.tile_rows - 1)) == 0) {
      float *scale = way.quantize.scale + (first_row + row) / way.tile_rows * way.tiles_across;
      const int64_t column = first_column + half * 32;
      scale[column / way.tile_columns] = found[0].scale;
      if (!joined) scale[column / way.tile_columns + 1] = found[1].scale;
    }
  }
}

/* Where a lane's sixteen rows of two neighbouring columns begin: the row, the word of it, and how many lanes are beside one
 * another. */
struct ColumnPlace {
  int row, word, beside;
};

__device__ inline void load_words(uint32_t place, uint32_t (&x)[GROUP]) {
#pragma unroll
  for (int j = 0; j < GROUP; j++) {
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x[j]) : "r"((place ^ (j & 7) << 4) + j * 128) : "memory");
  }
}

/* Those rows, transformed in the stage, too, if that is wanted; turn: 0 or 1. */
template <typename Scalar, int TEAM>
__device__ inline ColumnPlace take_columns(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                           int turn, uint32_t (&x)[GROUP]) {
  const int lane = threadIdx.x % WARP;
  const int below = max(way.tile_rows, way.hadamard.length) >> 4, beside_shift = 6 - __ffs(below);
  const int beside = 1 << beside_shift, lane_below = lane >> beside_shift, lane_across = lane & (beside - 1);
  const int i = turn * TEAM + number_in_team<TEAM>(), row = ((i & -below) + lane_below) * GROUP;
  const unsigned word = (i & (below - 1)) * beside + lane_across;
  const uint32_t place = shared_address(&stage.vector[row][0]) | (word / 4 ^ turn_of(row)) << 4 | word % 4 << 2;
  load_words(place, x);
  if (way.hadamard.length > 0) {
    transform_words<Scalar>(way.hadamard, state, row, beside, x);
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
      asm volatile("st.shared.u32 [%0], %1;" : : "r"((place ^ (j & 7) << 4) + j * 128), "r"(x[j]) : "memory");
    }
  }
  return {row, (int)word, beside};
}

/* The first of the factors of a place's columns. */
__device__ inline int factors_at(const ColumnPlace &place) {
  return place.row / GROUP * PATCH_COLUMNS + place_of_pair(place.word);
}

template <typename Scalar, int TEAM>
__device__ inline void scale_columns(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                     int64_t first_row, int64_t first_column, Findings &findings) {
#pragma unroll 1
  for (int k = 0; k < WARP_ROWS / GROUP; k++) {
    uint32_t x[GROUP];
    const ColumnPlace place = take_columns<Scalar>(way, state, stage, k, x);
    const int row = place.row;
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < GROUP; j++) largest = raise<Scalar>(largest, x[j]);
    for (int step = place.beside; step < place.beside * way.tile_rows >> 4; step *= 2) {
      largest = raise<Scalar>(largest, shuffle_xor(largest, step));
    }
    float magnitude[2];
    unpack_word(largest, Scalar(), magnitude[0], magnitude[1]);
    Factors found[2];
    find_factors(way, state, magnitude, found, findings);
    *reinterpret_cast<float4 *>(&stage.factors[factors_at(place)]) =
        make_float4(found[0].inverse, found[0].scale, found[1].inverse, found[1].scale);
    if (way.quantize.scale && (row & (way.tile_rows - 1)) == 0) {
      float *scale = way.quantize.scale + (first_row + row) / way.tile_rows * way.tiles_across + first_column;
      scale[2 * place.word] = found[0].scale;
      scale[2 * place.word + 1] = found[1].scale;
    }
  }
}

/* --- groups of 64, by two warps for 64 rows --- */

__device__ inline bool has_long_rows(const WayPlan &way) {
  return way.hadamard.length == 64 && way.tile_rows == 1 && way.tile_columns == 32;
}

template <typename Scalar, int TEAM>
__device__ inline void scale_long_rows(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                       int64_t first_row, int64_t first_column, Findings &findings) {
  const int row = number_in_team<TEAM>() * WARP_ROWS + threadIdx.x % WARP;
  uint32_t largest[4];
  transform_row<Scalar>(state, stage.vector[row], turn_of(row), largest);
  float magnitude[2];
#pragma unroll
  for (int k = 0; k < 2; k++) {
    magnitude[k] = float_from_bits(magnitude_bits(__vmaxu2(largest[2 * k], largest[2 * k + 1]), Scalar()));
  }
  Factors found[2];
  find_factors(way, state, magnitude, found, findings);
#pragma unroll
  for (int k = 0; k < 2; k++) {
    *reinterpret_cast<float4 *>(&stage.factors[row * (PATCH_COLUMNS / GROUP) + 2 * k]) =
        make_float4(found[k].inverse, found[k].scale, found[k].inverse, found[k].scale);
  }
  if (way.quantize.scale) {
    float *scale = way.quantize.scale + (first_row + row) * way.tiles_across + first_column / 32;
    scale[0] = found[0].scale;
    scale[1] = found[1].scale;
  }
}

__device__ inline bool has_long_columns(const WayPlan &way) { return way.hadamard.length == 64 && way.tile_rows == 32; }

/* Lanes of one block have two times two columns of it, in turn, of which each works out the scales of one. */
template <typename Scalar, int TEAM>
__device__ inline void scale_long_columns(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                          int64_t first_row, int64_t first_column, Findings &findings) {
  const int lane = threadIdx.x % WARP, m = lane / 8, block = m / 2;
  uint32_t largest = 0;
#pragma unroll 1
  for (int k = 0; k < 2; k++) {
    const int first_vector = 2 * (k * TEAM + number_in_team<TEAM>());
    const int row = m * GROUP, word = lane % 8;
    const uint32_t place = shared_address(&stage.vector[row][(first_vector + word / 4) ^ turn_of(row)]) + word % 4 * 4;
    uint32_t x[GROUP];
    load_words(place, x);
    transform_long<Scalar>(state, ColumnExchange(stage, first_vector), x);
    uint32_t of_block[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < GROUP; j++) of_block[j / 8] = raise<Scalar>(of_block[j / 8], x[j]);
    uint32_t own = block ? of_block[1] : of_block[0];
    own = __vmaxu2(own, shuffle_xor(block ? of_block[0] : of_block[1], 16));
    own = __vmaxu2(own, shuffle_xor(own, 8));
    if ((m & 1) == k) largest = own;
  }
  float magnitude[2];
  unpack_word(largest, Scalar(), magnitude[0], magnitude[1]);
  Factors found[2];
  find_factors(way, state, magnitude, found, findings);
  const int word = ((m & 1) * TEAM + number_in_team<TEAM>()) * 8 + lane % 8;
#pragma unroll
  for (int k = 0; k < 2; k++) {
    *reinterpret_cast<float4 *>(&stage.factors[(2 * block + k) * PATCH_COLUMNS + place_of_pair(word)]) =
        make_float4(found[0].inverse, found[0].scale, found[1].inverse, found[1].scale);
  }
  if (way.quantize.scale) {
    float *scale = way.quantize.scale + (first_row / 32 + block) * way.tiles_across + first_column + 2 * word;
    scale[0] = found[0].scale;
    scale[1] = found[1].scale;
  }
}

/* LONG_ROWS: whether there are registers for a row. */
template <typename Scalar, bool LONG_ROWS, int TEAM>
__device__ inline void scale_patch(const WayPlan &way, const PatchState &state, PatchStage<TEAM> &stage,
                                   int64_t first_row, int64_t first_column, Findings &findings) {
  if constexpr (TEAM == 2) {
    if (LONG_ROWS && has_long_rows(way))
      return scale_long_rows<Scalar>(way, state, stage, first_row, first_column, findings);
    if (has_long_columns(way)) return scale_long_columns<Scalar>(way, state, stage, first_row, first_column, findings);
  }
  if (way.tile_columns > 1) {
    scale_rows<Scalar>(way, state, stage, first_row, first_column, findings);
  } else {
    scale_columns<Scalar>(way, state, stage, first_row, first_column, findings);
  }
}

} // namespace

#endif
