/* Rounding of a patch whose scales are known, a vector after the other as it lies in memory: a lane has one in every fourth
 * of its warp's rows. Loops are not unrolled, so that what a warp runs through stays short. */
#ifndef FP8_NARROW_ROUNDING_CUH
#define FP8_NARROW_ROUNDING_CUH

#include <type_traits>

#include "quantize/narrow/scales.cuh"

namespace {

/* What a vector's numbers are multiplied with: one for all, or those of eight columns. */
template <int N> struct EachFactors {
  Factors factors[N];
  __device__ Factors at(int k) const { return factors[N > 1 ? k : 0]; }
};
template <int N> __device__ inline EachFactors<N> each_of(const Factors (&found)[N]) {
  EachFactors<N> each;
#pragma unroll
  for (int k = 0; k < N; k++) each.factors[k] = found[k];
  return each;
}

/* As grid_nearest, of maps. */
template <bool CLIPS> struct OfGrid {
  uint32_t to_large, least;
  float limit;
  __device__ explicit OfGrid(const WayPlan &way) {
    const FormatGrid &grid = way.quantize.grid;
    to_large = (uint32_t)(23 - grid.bits) << 23 | 0x00400000u;
    least = ((uint32_t)(grid.exponent + 127) << 23) + to_large;
    limit = way.quantize.rule.limit;
  }
  __device__ void round(const float *scaled, float *result) const {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float cut = CLIPS ? fminf(fmaxf(scaled[k], -limit), limit) : scaled[k];
      const float large = float_from_bits(__viaddmax_u32(float_to_bits(cut) & infinity_bits, to_large, least));
      result[k] = (cut + large) - large;
    }
  }
};

/* By the chip's conversions. */
template <Encoding ENCODING> struct ByConversion {
  __device__ explicit ByConversion(const WayPlan &) {}
  __device__ void round(const float *scaled, float *result) const {
    Encoder<ENCODING>::numbers(Encoder<ENCODING>::pair(scaled[0], scaled[1]), result[0], result[1]);
    Encoder<ENCODING>::numbers(Encoder<ENCODING>::pair(scaled[2], scaled[3]), result[2], result[3]);
  }
};

/* Eight numbers with the factors of each. */
template <typename Scalar, typename Rounder> struct NearestVector {
  Rounder rounder;
  __device__ NearestVector(const WayPlan &way, const PatchState &) : rounder(way) {}
  __device__ uint64_t first(uint64_t) const { return 0; }
  template <int N> using Scales = EachFactors<N>;
  template <int N> __device__ Scales<N> scales_of(const Factors (&found)[N]) const { return each_of(found); }
  template <int N> __device__ uint4 quantized(const EachFactors<N> &scales, const uint4 &raw, uint64_t) const {
    float value[8], rounded[8];
    unpack<Scalar>(raw, value);
#pragma unroll
    for (int k = 0; k < 8; k++) value[k] *= scales.at(k).inverse;
    rounder.round(value, rounded);
    rounder.round(value + 4, rounded + 4);
#pragma unroll
    for (int k = 0; k < 8; k++) rounded[k] *= scales.at(k).scale;
    return pack<Scalar>(rounded);
  }
};

/* The sum with -0 or 0 of both elements. */
__device__ inline uint32_t sum_with_zero(uint32_t word, uint32_t zero, BFloat16) {
  asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(word) : "r"(0x3F803F80u), "r"(zero));
  return word;
}
__device__ inline uint32_t sum_with_zero(uint32_t word, uint32_t zero, Half) {
  asm("fma.rn.f16x2 %0, %0, %1, %2;" : "+r"(word) : "r"(0x3C003C00u), "r"(zero));
  return word;
}

/* Of the smaller magnitude, and with the sign of the first. */
__device__ inline uint32_t smaller_magnitude(uint32_t word, uint32_t positive, BFloat16) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 860
  asm("min.xorsign.abs.bf16x2 %0, %0, %1;" : "+r"(word) : "r"(positive));
  return word;
#else
  return __vminu2(word & 0x7FFF7FFFu, positive) | (word & 0x80008000u);
#endif
}
__device__ inline uint32_t smaller_magnitude(uint32_t word, uint32_t positive, Half) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 860
  asm("min.xorsign.abs.f16x2 %0, %0, %1;" : "+r"(word) : "r"(positive));
  return word;
#else
  return __vminu2(word & 0x7FFF7FFFu, positive) | (word & 0x80008000u);
#endif
}

/* Whether rounded numbers can be multiplied by their scales times 2^126, and scaled ones need no limit before that. */
__device__ inline bool are_small(const WayPlan &way, const Findings &findings) {
  return findings.largest_scale * float_from_bits((uint32_t)(127 + way.quantize.grid.exponent) << 23) < 2.0f &&
         findings.most < 0x1p64f;
}

/* As Stochastic, for any scales: magnitudes get their signs in pairs, as 0 of a map has none. */
template <typename Scalar, int DROPPED> struct AnyStochastic {
  Stochastic<DROPPED> stochastic;
  RandomKeys keys;
  uint64_t offset;
  __device__ AnyStochastic(const WayPlan &way, const PatchState &state)
      : stochastic(way.quantize), keys(state.random), offset(state.random.offset) {}
  __device__ uint64_t first(uint64_t number) const { return offset + number; }
  template <int N> using Scales = EachFactors<N>;
  template <int N> __device__ Scales<N> scales_of(const Factors (&found)[N]) const { return each_of(found); }
  __device__ uint32_t with_signs(uint32_t word, uint32_t raw) const {
    return sum_with_zero(word | (raw & 0x80008000u), stochastic.map ? 0 : 0x80008000u, Scalar());
  }
  template <int N> __device__ uint4 quantized(const EachFactors<N> &scales, const uint4 &raw, uint64_t number) const {
    float value[8];
    uint32_t random[8], rounded[8];
    unpack<Scalar>(raw, value);
    share_block(keys.block_at(number), 0, random);
    stochastic.round(
        value, random, [&](int k) { return scales.at(k); }, rounded);
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const float whole = float_from_bits(rounded[k] & 0xFFFFFFFFu << stochastic.dropped);
      value[k] = whole * 0x1p126f * (scales.at(k).scale * stochastic.from_subnormal);
    }
    const uint4 result = pack<Scalar>(value);
    return make_uint4(with_signs(result.x, raw.x), with_signs(result.y, raw.y), with_signs(result.z, raw.z),
                      with_signs(result.w, raw.w));
  }
};

/* The same where are_small: numbers keep their signs, to which random bits do not reach, and are cut to the limit in pairs,
 * when they have their scales. */
template <typename Scalar, int DROPPED> struct SmallStochastic {
  RandomKeys keys;
  uint64_t offset;
  float to_subnormal, from_subnormal, limit;
  uint32_t zero;
  __device__ SmallStochastic(const WayPlan &way, const PatchState &state)
      : keys(state.random), offset(state.random.offset), limit(way.quantize.rule.limit),
        zero(way.quantize.map ? 0 : 0x80008000u) {
    const Stochastic<DROPPED> stochastic(way.quantize);
    to_subnormal = stochastic.to_subnormal;
    from_subnormal = stochastic.from_subnormal * 0x1p126f;
  }
  __device__ uint64_t first(uint64_t number) const { return offset + number; }
  template <int N> struct Scales {
    float inverse[N], scale[N];
    uint32_t limit[(N + 1) / 2];
  };
  template <int N> __device__ Scales<N> scales_of(const Factors (&found)[N]) const {
    Scales<N> scales;
#pragma unroll
    for (int k = 0; k < N; k++) {
      scales.inverse[k] = found[k].inverse;
      scales.scale[k] = found[k].scale * from_subnormal;
    }
#pragma unroll
    for (int k = 0; k < N; k += 2) {
      scales.limit[k / 2] = pack_word(limit * found[k].scale, limit * found[N > 1 ? k + 1 : 0].scale, Scalar());
    }
    return scales;
  }
  template <int N> __device__ uint4 quantized(const Scales<N> &scales, const uint4 &raw, uint64_t number) const {
    float value[8];
    uint32_t random[8], word[4];
    unpack<Scalar>(raw, value);
    share_block(keys.block_at(number), 0, random);
#pragma unroll
    for (int k = 0; k < 8; k++) {
      const int own = N > 1 ? k : 0;
      const uint32_t bits =
          float_to_bits(value[k] * scales.inverse[own] * to_subnormal) + (random[k] >> (32 - DROPPED));
      value[k] = float_from_bits(bits & 0xFFFFFFFFu << DROPPED) * scales.scale[own];
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
      word[k] = pack_word(value[2 * k], value[2 * k + 1], Scalar());
      word[k] = smaller_magnitude(word[k], scales.limit[N > 1 ? k : 0], Scalar());
      word[k] = sum_with_zero(word[k], zero, Scalar());
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
  }
};

__device__ inline uint32_t product_and_sum(uint32_t a, uint32_t b, uint32_t c) {
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(a) : "r"(a), "r"(b), "r"(c));
  return a;
}

/* The same of bfloat16 numbers by scales that are powers of two: products with those are exact, in pairs, too. */
template <int DROPPED> struct StochasticByPowers {
  RandomKeys keys;
  uint64_t offset;
  float to_subnormal, from_subnormal;
  uint32_t limit, zero, high_zero;
  __device__ StochasticByPowers(const WayPlan &way, const PatchState &state)
      : keys(state.random), offset(state.random.offset), zero(way.quantize.map ? 0 : 0x80008000u) {
    const Stochastic<DROPPED> stochastic(way.quantize);
    to_subnormal = stochastic.to_subnormal;
    from_subnormal = stochastic.from_subnormal * 0x1p126f;
    limit = upper_halves(stochastic.limit * to_subnormal, stochastic.limit * to_subnormal);
    /* -0 above 0, and no constant: the compiler would make that again for each sum. */
    high_zero = 0x80000000u | (uint32_t)way.tile_rows >> 31;
  }
  static __device__ uint32_t upper_halves(float low, float high) {
    return __byte_perm(float_to_bits(low), float_to_bits(high), 0x7632);
  }
  __device__ uint64_t first(uint64_t number) const { return offset + number; }
  template <int N> struct Scales {
    float inverse[N];
    uint32_t scale[(N + 1) / 2];
  };
  template <int N> __device__ Scales<N> scales_of(const Factors (&found)[N]) const {
    Scales<N> scales;
#pragma unroll
    for (int k = 0; k < N; k++) scales.inverse[k] = found[k].inverse * to_subnormal;
#pragma unroll
    for (int k = 0; k < N; k += 2) {
      scales.scale[k / 2] =
          upper_halves(found[k].scale * from_subnormal, found[N > 1 ? k + 1 : 0].scale * from_subnormal);
    }
    return scales;
  }
  template <int N> __device__ uint4 quantized(const Scales<N> &scales, const uint4 &raw, uint64_t number) const {
    constexpr uint32_t kept = 0xFFFFu << (DROPPED - 16) & 0xFFFFu;
    uint32_t random[8], word[4] = {raw.x, raw.y, raw.z, raw.w};
    share_block(keys.block_at(number), 0, random);
#pragma unroll
    for (int k = 0; k < 4; k++) {
      /* The upper one times 1, and the other times 0. */
      const uint32_t high = product_and_sum(word[k], 0x3F800000u, high_zero);
      const float scaled[2] = {float_from_bits(word[k] << 16) * scales.inverse[N > 1 ? 2 * k : 0],
                               float_from_bits(high) * scales.inverse[N > 1 ? 2 * k + 1 : 0]};
      const uint32_t pair = __byte_perm(float_to_bits(scaled[0]) + (random[2 * k] >> (32 - DROPPED)),
                                        float_to_bits(scaled[1]) + (random[2 * k + 1] >> (32 - DROPPED)), 0x7632);
      word[k] = product_and_sum(smaller_magnitude(pair & (kept | kept << 16), limit, BFloat16()),
                                scales.scale[N > 1 ? k : 0], zero);
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
  }
};

/* Whether those can be used, small numbers given. */
__device__ inline bool has_powers(const WayPlan &way) {
  const ScaleRule &rule = way.quantize.rule;
  return rule.rounding != SCALE_EXACT && rule.rounding != SCALE_E4M3 && rule.constant == 0;
}

template <typename Scalar, typename Vector, int TEAM>
__device__ inline void round_patch(const WayPlan &way, const PatchState &state, const PatchStage<TEAM> &stage,
                                   int64_t at, int64_t columns) {
  const Vector vector(way, state);
  const int across = threadIdx.x % VECTORS;
  Scalar *to = static_cast<Scalar *>(way.quantize.values) + at;
  uint64_t number = vector.first(at / 8);
  constexpr int all = WARP_ROWS / 4, half = all / 2;
  const int turns = way.tile_columns == 1 && way.tile_rows < WARP_ROWS ? half : all;
#pragma unroll 1
  for (int k = 0; k < all; k += turns) {
    const int row = first_row_of_lane<TEAM>() + 4 * k;
    uint32_t place = shared_address(&stage.vector[row][across ^ turn_of(row)]);
    const auto round_rows = [&](const auto &scales_of_row) {
#pragma unroll 1
      for (int i = 0; i < turns; i++, to += 4 * columns, number += columns / 2) {
        const uint4 raw = shared_vector(place);
        place = (i == half - 1 ? place : place ^ 64) + 4 * PATCH_COLUMNS * 2; /* turn_of */
        store_vector(reinterpret_cast<uint4 *>(to), vector.quantized(scales_of_row(i), raw, number));
      }
    };
    if (way.tile_columns > 1) {
      const Factors *of_rows = &stage.factors[row * (PATCH_COLUMNS / GROUP) + across / 2];
      round_rows([&](int i) {
        const Factors found[1] = {of_rows[i * PATCH_COLUMNS / 4]};
        return vector.scales_of(found);
      });
    } else {
      Factors found[8];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float4 two = *reinterpret_cast<const float4 *>(
            &stage.factors[row / GROUP * PATCH_COLUMNS + place_of_pair(4 * across + i)]);
        found[2 * i] = {two.x, two.y};
        found[2 * i + 1] = {two.z, two.w};
      }
      const auto of_columns = vector.scales_of(found);
      round_rows([=](int) { return of_columns; });
    }
  }
}

/* What the others leave. */
template <typename Scalar, Rounding ROUNDING, int TEAM>
__device__ __noinline__ void round_rare_patch(const WayPlan &way, const PatchState &state,
                                              const PatchStage<TEAM> &stage, int64_t at, int64_t columns) {
  const int across = threadIdx.x % VECTORS;
  int row = first_row_of_lane<TEAM>();
#pragma unroll 1
  for (int i = 0; i < WARP_ROWS / 4; i++, row += 4, at += 4 * columns) {
    Factors found[8];
#pragma unroll
    for (int k = 0; k < 8; k++) {
      found[k] =
          stage.factors[way.tile_columns > 1 ? row * (PATCH_COLUMNS / GROUP) + across / 2
                                             : row / GROUP * PATCH_COLUMNS + place_of_pair(4 * across + k / 2) + k % 2];
    }
    quantize_vector<Scalar, ROUNDING>(way, found, true, state.random, stage.vector[row][across ^ turn_of(row)], at);
  }
}

template <typename Scalar, Rounding ROUNDING, int TEAM>
__device__ inline void round_any(const WayPlan &way, const PatchState &state, const PatchStage<TEAM> &stage,
                                 const Findings &findings, int64_t at, int64_t columns) {
  const QuantizePlan &plan = way.quantize;
  if constexpr (ROUNDING == TO_POWERS) {
    if (is_for_any<TEAM>(findings.rare)) return round_rare_patch<Scalar, ROUNDING>(way, state, stage, at, columns);
    round_patch<Scalar, AnyStochastic<Scalar, 23>>(way, state, stage, at, columns);
  } else if constexpr (ROUNDING == STOCHASTIC) {
    const int dropped = grid_dropped(&plan.grid);
    if (is_for_any<TEAM>(findings.rare || !are_small(way, findings)) || !(dropped == 22 || dropped == 20)) {
      if (is_for_any<TEAM>(findings.rare)) return round_rare_patch<Scalar, ROUNDING>(way, state, stage, at, columns);
      return round_patch<Scalar, AnyStochastic<Scalar, 0>>(way, state, stage, at, columns);
    }
    if constexpr (std::is_same_v<Scalar, BFloat16>) {
      if (has_powers(way)) {
        return dropped == 22 ? round_patch<Scalar, StochasticByPowers<22>>(way, state, stage, at, columns)
                             : round_patch<Scalar, StochasticByPowers<20>>(way, state, stage, at, columns);
      }
    }
    dropped == 22 ? round_patch<Scalar, SmallStochastic<Scalar, 22>>(way, state, stage, at, columns)
                  : round_patch<Scalar, SmallStochastic<Scalar, 20>>(way, state, stage, at, columns);
  } else {
    if (is_for_any<TEAM>(findings.rare) || (!plan.map && !FLOAT8_CONVERSIONS)) {
      return round_rare_patch<Scalar, ROUNDING>(way, state, stage, at, columns);
    }
    if (!plan.map && plan.format == DTYPE_E4M3) {
      return round_patch<Scalar, NearestVector<Scalar, ByConversion<ENCODING_E4M3>>>(way, state, stage, at, columns);
    }
    if (!plan.map) {
      return round_patch<Scalar, NearestVector<Scalar, ByConversion<ENCODING_E5M2>>>(way, state, stage, at, columns);
    }
    if (is_for_any<TEAM>(findings.most >= state.bound)) {
      return round_patch<Scalar, NearestVector<Scalar, OfGrid<true>>>(way, state, stage, at, columns);
    }
    round_patch<Scalar, NearestVector<Scalar, OfGrid<false>>>(way, state, stage, at, columns);
  }
}

} // namespace

#endif
