/* Scales of small blocks, and sixteen bytes of x that are rounded by them: what the kernel of ways.cu does with a vector. */
#ifndef FP8_WAYS_VECTOR_CUH
#define FP8_WAYS_VECTOR_CUH

#include "quantize/encode.cuh"
#include "quantize/warp_patches.cuh"
#include "quantize/ways.h"

namespace {

/* --- scales --- */

/* Numbers count as 0, or are divided by the scale: the inverse is 0 or infinite, as that of no other scale is. */
__device__ inline bool is_rare(const Factors &factors) { return factors.inverse == 0 || isinf(factors.inverse); }

__device__ inline float rounded_to_e4m3(float value) {
  float low, high;
  Encoder<ENCODING_E4M3>::numbers(Encoder<ENCODING_E4M3>::pair(value, value), low, high);
  return low;
}

/* scale_below and scaling_below, or scale_by_rule and block_scaling. */
__device__ inline Factors factors_of(const QuantizePlan &plan, const UpperScale &upper, uint32_t magnitude) {
  BlockScaling scaling;
  if (plan.rule.rounding == SCALE_E4M3) {
    const bool broken = magnitude >= infinity_bits || upper.encode != upper.encode;
    const float stored = rounded_to_e4m3(float_from_bits(magnitude) * upper.encode);
    scaling = scaling_below(broken ? float_from_bits(nan_bits) : stored, &upper);
  } else {
    const float scale = scale_of(plan, magnitude);
    const uint32_t bits = float_to_bits(scale);
    if ((bits & 0x007FFFFFu) == 0 && is_usual(scale))
      return {float_from_bits(0x7F000000u - bits), scale}; /* 2^e, 2^-e */
    scaling = block_scaling(scale, 1.0f / scale, false);
  }
  return {scaling.empty ? 0.0f : scaling.inverse, scaling.scale};
}

/* --- rounding --- */

enum Rounding { NEAREST, STOCHASTIC, TO_POWERS /* stochastic, too */ };

/* A number without scale. */
template <Rounding ROUNDING>
__device__ inline float round_number(const QuantizePlan &plan, uint32_t sign, float value, uint32_t random) {
  const float limit = plan.rule.limit;
  value = fminf(fmaxf(value, -limit), limit);
  const float rounded = ROUNDING == NEAREST      ? grid_nearest(&plan.grid, value)
                        : ROUNDING == STOCHASTIC ? grid_stochastic(&plan.grid, value, random)
                                                 : powers_stochastic(&plan.powers, value, random);
  return float_from_bits(float_to_bits(rounded) | (float_to_bits(value) & sign));
}

/* Of rounded numbers. */
template <int WIDTH>
__device__ inline void store_codes(const QuantizePlan &plan, const float (&value)[WIDTH], const Factors *factors,
                                   bool each, int64_t at) {
  Packed<uint8_t, WIDTH> codes;
  if (plan.map) {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) codes.element[k] = grid_code(&plan.grid, value[k]);
  } else {
#pragma unroll
    for (int k = 0; k < WIDTH; k += 2) {
      const uint32_t pair = plan.format == DTYPE_E4M3 ? Encoder<ENCODING_E4M3>::pair(value[k], value[k + 1])
                                                      : Encoder<ENCODING_E5M2>::pair(value[k], value[k + 1]);
      const float first = factors[each ? k : 0].scale, second = factors[each ? k + 1 : 0].scale;
      codes.element[k] = first == first ? (uint8_t)pair : 0x7F; /* NaN in both formats */
      codes.element[k + 1] = second == second ? (uint8_t)(pair >> 8) : 0x7F;
    }
  }
  *reinterpret_cast<Packed<uint8_t, WIDTH> *>(plan.codes + at) = codes;
}

/* A vector, all of one scale or with one for each column. */
template <typename Scalar, Rounding ROUNDING, int SCALES>
__device__ inline void quantize_vector(const WayPlan &way, const Factors (&factors)[SCALES], bool rare,
                                       RandomSource source, const uint4 &raw, int64_t at) {
  constexpr int width = vector_width<Scalar>;
  constexpr bool each = SCALES > 1;
  const QuantizePlan &plan = way.quantize;
  float value[width];
  uint32_t random[width] = {};
  unpack<Scalar>(raw, value);
  if (ROUNDING != NEAREST) rounding_bits(source, at, random);
  if (rare) {
#pragma unroll
    for (int k = 0; k < width; k++) {
      const Factors own = factors[each ? k : 0];
      value[k] = own.inverse == 0 ? 0.0f : isinf(own.inverse) ? value[k] / own.scale : value[k] * own.inverse;
    }
  } else {
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= factors[each ? k : 0].inverse;
  }
#pragma unroll
  for (int k = 0; k < width; k++) value[k] = round_number<ROUNDING>(plan, way.sign, value[k], random[k]);
  if (plan.codes) store_codes(plan, value, factors, each, at);
  if (!plan.values) return;
#pragma unroll
  for (int k = 0; k < width; k++) value[k] *= factors[each ? k : 0].scale;
  if (sizeof(Scalar) == 2 || plan.values_dtype == DTYPE_F32) {
    store_vector(reinterpret_cast<uint4 *>(static_cast<Scalar *>(plan.values) + at), pack<Scalar>(value));
  } else {
    store_values(plan, at, value);
  }
}

/* --- stochastic rounding of all rows that a lane holds of a patch --- */

/* Where two lanes have a half each of the same blocks, each makes those of every other row, `own`, and gives the other lane
 * its half. A block of which this lane needs one half has that in both. */
__device__ inline void exchange_halves(const RandomBlock &own, RandomBlock &first, RandomBlock &second) {
  const bool odd = threadIdx.x & 1;
  const uint32_t low = shuffle_xor(odd ? own.word[0] : own.word[2], 1);
  const uint32_t high = shuffle_xor(odd ? own.word[1] : own.word[3], 1);
  first.word[0] = first.word[2] = odd ? low : own.word[0];
  first.word[1] = first.word[3] = odd ? high : own.word[1];
  second.word[0] = second.word[2] = odd ? own.word[2] : low;
  second.word[1] = second.word[3] = odd ? own.word[3] : high;
}

/* round_row(j, block, at) with the random numbers of each row's vector. A whole warp together. */
template <typename Scalar, typename Round>
__device__ inline void with_random_rows(RandomSource source, int64_t columns, int64_t at, const Round &round_row) {
  const RandomKeys keys(source);
  const int odd = threadIdx.x & 1;
  bool halves = false;
  if (sizeof(Scalar) == 4) {
    const int64_t other = shuffle_xor(at / 8, 1);
    halves = __all_sync(all_lanes, columns % 8 == 0 && at % 8 == 4 * odd && other == at / 8);
  }
  /* Two at a time: the rounds of a block wait for one another. */
#pragma unroll 1
  for (int j = 0; j < ROWS; j += 2, at += 2 * columns) {
    RandomBlock first, second;
    if (halves) {
      exchange_halves(keys.block_at(source.offset + (uint64_t)(at + odd * columns) / 8), first, second);
    } else {
      first = keys.block_at(source.offset + (uint64_t)at / 8);
      second = keys.block_at(source.offset + (uint64_t)(at + columns) / 8);
    }
    round_row(j, first, at);
    round_row(j + 1, second, at + columns);
  }
}

/* factors_at(j, k): those of element k in row j. */
template <typename Scalar, int DROPPED, typename Found>
__device__ inline void round_rows_at_random(const WayPlan &way, RandomSource source, const Found &factors_at,
                                            const uint4 (&vector)[ROWS][WARP], int64_t columns, int64_t at) {
  const Stochastic<DROPPED> stochastic(way.quantize);
  const int lane = threadIdx.x % WARP;
  if (uint8_t *codes = way.quantize.codes) {
    with_random_rows<Scalar>(source, columns, at, [&](int j, const RandomBlock &block, int64_t begin) {
      stochastic.template to_codes<Scalar>(
          codes, block, vector[j][lane], [&](int k) { return factors_at(j, k); }, begin);
    });
  }
  if (Scalar *values = static_cast<Scalar *>(way.quantize.values)) {
    with_random_rows<Scalar>(source, columns, at, [&](int j, const RandomBlock &block, int64_t begin) {
      stochastic.to_values(
          values, block, vector[j][lane], [&](int k) { return factors_at(j, k); }, begin);
    });
  }
}

/* What quantize_vector gives for each vector, in fewer instructions. False for what is left to it: rows that do not exist,
 * and rare factors or unusual scales. A whole warp together; rare: whether this lane has found such. */
template <typename Scalar, Rounding ROUNDING, typename Found>
__device__ inline bool rounds_rows_at_random(const WayPlan &way, RandomSource source, const Found &factors_at,
                                             bool rare, int have, const uint4 (&vector)[ROWS][WARP], int64_t columns,
                                             int64_t at) {
  const QuantizePlan &plan = way.quantize;
  if (sizeof(Scalar) == 4 && plan.values && plan.values_dtype != DTYPE_F32) return false;
  if (!__all_sync(all_lanes, have == ROWS && !rare)) return false;
  const int dropped = grid_dropped(&plan.grid);
  if constexpr (ROUNDING == TO_POWERS) {
    round_rows_at_random<Scalar, 23>(way, source, factors_at, vector, columns, at);
  } else if (dropped == 22) {
    round_rows_at_random<Scalar, 22>(way, source, factors_at, vector, columns, at);
  } else if (dropped == 20) {
    round_rows_at_random<Scalar, 20>(way, source, factors_at, vector, columns, at);
  } else {
    round_rows_at_random<Scalar, 0>(way, source, factors_at, vector, columns, at);
  }
  return true;
}

} // namespace

#endif
