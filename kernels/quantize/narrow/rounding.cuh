/* Rounding of a patch whose scales are known, a vector after the other as it lies in memory: a lane has one in every fourth
 * of its warp's rows. Loops are not unrolled, so that what a warp runs through stays short. */
#ifndef FP8_NARROW_ROUNDING_CUH
#define FP8_NARROW_ROUNDING_CUH

#include "quantize/narrow/scales.cuh"

namespace {

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
  template <typename Found> __device__ uint4 quantized(const Found &factors_at, const uint4 &raw, uint64_t) const {
    float value[8], rounded[8];
    unpack<Scalar>(raw, value);
#pragma unroll
    for (int k = 0; k < 8; k++) value[k] *= factors_at(k).inverse;
    rounder.round(value, rounded);
    rounder.round(value + 4, rounded + 4);
#pragma unroll
    for (int k = 0; k < 8; k++) rounded[k] *= factors_at(k).scale;
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

/* Whether rounded numbers can be multiplied by their scales times 2^126. */
__device__ inline bool are_small(const WayPlan &way, const Findings &findings) {
  return findings.largest_scale * float_from_bits((uint32_t)(127 + way.quantize.grid.exponent) << 23) < 2.0f;
}

/* As Stochastic, but magnitudes get their signs in pairs: 0 of a map has none. SMALL: are_small. */
template <typename Scalar, int DROPPED, bool SMALL> struct StochasticVector {
  Stochastic<DROPPED> stochastic;
  RandomKeys keys;
  uint64_t offset;
  __device__ StochasticVector(const WayPlan &way, const PatchState &state)
      : stochastic(way.quantize), keys(state.random), offset(state.random.offset) {}
  __device__ uint32_t with_signs(uint32_t word, uint32_t raw) const {
    return sum_with_zero(word | (raw & 0x80008000u), stochastic.map ? 0 : 0x80008000u, Scalar());
  }
  template <typename Found>
  __device__ uint4 quantized(const Found &factors_at, const uint4 &raw, uint64_t number) const {
    float value[8];
    uint32_t rounded[8];
    unpack<Scalar>(raw, value);
    share_block(keys.block_at(offset + number), 0, rounded);
#pragma unroll
    for (int k = 0; k < 8; k++) {
      rounded[k] = stochastic.round(value[k] * factors_at(k).inverse, rounded[k]);
      const float whole = float_from_bits(rounded[k] & 0xFFFFFFFFu << stochastic.dropped);
      const float scale = factors_at(k).scale * stochastic.from_subnormal;
      value[k] = SMALL ? whole * (scale * 0x1p126f) : whole * 0x1p126f * scale;
    }
    const uint4 result = pack<Scalar>(value);
    return make_uint4(with_signs(result.x, raw.x), with_signs(result.y, raw.y), with_signs(result.z, raw.z),
                      with_signs(result.w, raw.w));
  }
};

template <typename Scalar, typename Vector, int TEAM>
__device__ inline void round_patch(const WayPlan &way, const PatchState &state, const PatchStage<TEAM> &stage,
                                   int64_t at, int64_t columns) {
  const Vector vector(way, state);
  const int across = threadIdx.x % VECTORS;
  const char *vectors = reinterpret_cast<const char *>(stage.vector);
  Scalar *to = static_cast<Scalar *>(way.quantize.values) + at;
  uint64_t number = (uint64_t)at / 8;
#pragma unroll 1
  for (int k = 0; k < WARP_ROWS / GROUP; k++) {
    const int row = first_row_of_lane<TEAM>() + k * GROUP;
    const unsigned place = (row * VECTORS + (across ^ turn_of(row))) * sizeof(uint4);
    const auto round_rows = [&](const auto &factors_of_row) {
#pragma unroll 1
      for (int i = 0; i < GROUP / 4; i++, to += 4 * columns, number += columns / 2) {
        const uint4 raw =
            *reinterpret_cast<const uint4 *>(vectors + ((place ^ (i & 1) << 6) + i * 4 * PATCH_COLUMNS * 2));
        store_vector(reinterpret_cast<uint4 *>(to), vector.quantized(factors_of_row(i), raw, number));
      }
    };
    if (way.tile_columns > 1) {
      const Factors *of_rows = &stage.factors[row * (PATCH_COLUMNS / GROUP) + across / 2];
      round_rows([&](int i) {
        const Factors found = of_rows[i * PATCH_COLUMNS / 4];
        return [=](int) { return found; };
      });
    } else {
      Factors found[8];
      const float4 *of_columns =
          reinterpret_cast<const float4 *>(&stage.factors[row / GROUP * PATCH_COLUMNS + 8 * across]);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float4 two = of_columns[i];
        found[2 * i] = {two.x, two.y};
        found[2 * i + 1] = {two.z, two.w};
      }
      round_rows([&](int) { return [&](int j) { return found[j]; }; });
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
      found[k] = stage.factors[way.tile_columns > 1 ? row * (PATCH_COLUMNS / GROUP) + across / 2
                                                    : row / GROUP * PATCH_COLUMNS + 8 * across + k];
    }
    quantize_vector<Scalar, ROUNDING>(way, found, true, state.random, stage.vector[row][across ^ turn_of(row)], at);
  }
}

template <typename Scalar, Rounding ROUNDING, int TEAM>
__device__ inline void round_any(const WayPlan &way, const PatchState &state, const PatchStage<TEAM> &stage,
                                 const Findings &findings, int64_t at, int64_t columns) {
  const QuantizePlan &plan = way.quantize;
  if (is_for_any<TEAM>(findings.rare) || (ROUNDING == NEAREST && !plan.map && !FLOAT8_CONVERSIONS)) {
    return round_rare_patch<Scalar, ROUNDING>(way, state, stage, at, columns);
  }
  if constexpr (ROUNDING == STOCHASTIC) {
    const int dropped = grid_dropped(&plan.grid);
    const bool small = !is_for_any<TEAM>(!are_small(way, findings));
    if (small && dropped == 22) {
      round_patch<Scalar, StochasticVector<Scalar, 22, true>>(way, state, stage, at, columns);
    } else if (small && dropped == 20) {
      round_patch<Scalar, StochasticVector<Scalar, 20, true>>(way, state, stage, at, columns);
    } else {
      round_patch<Scalar, StochasticVector<Scalar, 0, false>>(way, state, stage, at, columns);
    }
  } else {
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
