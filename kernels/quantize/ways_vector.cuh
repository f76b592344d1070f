/* Scales of small blocks, and sixteen bytes of x that are rounded by them: what the kernel of ways.cu does with a vector. */
#ifndef FP8_WAYS_VECTOR_CUH
#define FP8_WAYS_VECTOR_CUH

#include "quantize/encode.cuh"
#include "quantize/ways.h"
#include "vectors.cuh"

namespace {

/* --- scales --- */

/* What numbers are multiplied with before they are rounded, and after. */
struct Factors {
  float inverse, scale;
};

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
    scaling = block_scaling(scale, 1.0f / scale, false);
  }
  return {scaling.empty ? 0.0f : scaling.inverse, scaling.scale};
}

/* --- rounding --- */

enum Rounding { NEAREST, STOCHASTIC };

__device__ inline float round_to_nearest(const WayPlan &way, float value) {
  const float nearest = grid_nearest(&way.quantize.grid, value);
  return float_from_bits(float_to_bits(nearest) | (float_to_bits(value) & way.sign));
}

/* As grid_stochastic, among float32's subnormal numbers, which have the format's steps by themselves. */
__device__ inline float round_stochastically(const WayPlan &way, float value, uint32_t random) {
  const int dropped = grid_dropped(&way.quantize.grid);
  const uint32_t bits = float_to_bits(value * way.to_subnormal) + (random >> (32 - dropped));
  const float rounded = float_from_bits(bits & 0xFFFFFFFFu << dropped);
  return fmaf(rounded, 0x1p126f, float_from_bits(way.sign)) * way.from_subnormal; /* the sum makes +0 of -0, or not */
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
  unpack<Scalar>(raw, value);
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
  const float limit = plan.rule.limit;
#pragma unroll
  for (int k = 0; k < width; k++) value[k] = fminf(fmaxf(value[k], -limit), limit);
  if (ROUNDING == STOCHASTIC) {
    uint32_t random[width];
    rounding_bits(source, at, random);
#pragma unroll
    for (int k = 0; k < width; k++) value[k] = round_stochastically(way, value[k], random[k]);
  } else {
#pragma unroll
    for (int k = 0; k < width; k++) value[k] = round_to_nearest(way, value[k]);
  }
  if (plan.codes) store_codes(plan, value, factors, each, at);
  if (!plan.values) return;
#pragma unroll
  for (int k = 0; k < width; k++) value[k] *= factors[each ? k : 0].scale;
  if (sizeof(Scalar) == 2 || plan.values_dtype == DTYPE_F32) {
    store_vector(static_cast<Scalar *>(plan.values) + at, pack<Scalar>(value));
  } else {
    store_values(plan, at, value);
  }
}

} // namespace

#endif
