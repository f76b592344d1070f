/* Sixteen bytes of elements to codes and to what those decode to: what the quantization kernels do with a vector once
 * its scale is known. */
#ifndef FP8_QUANTIZE_VECTOR_CUH
#define FP8_QUANTIZE_VECTOR_CUH

#include "quantize/encode.cuh"
#include "vectors.cuh"

namespace {

/* What multiplies or divides a vector's elements; `slow` where only the general code will do. */
struct VectorScaling {
  BlockScaling general;
  float inverse, divisor; /* finite; 0 and 1 for an empty block */
  float vanishing;        /* see `quotient` */
  bool slow;
};

/* Every quotient is right between these (see `quotient`). */
template <typename Scalar> constexpr float smallest_divisor = sizeof(Scalar) == 2 ? 0x1p-30f : 0x1p-60f;
template <typename Scalar> constexpr float largest_divisor = sizeof(Scalar) == 2 ? 0x1p16f : 0x1p60f;

/* `magnitude`: the bits of the largest |x|, needed only where the scale was given from outside. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline VectorScaling vector_scaling(const QuantizePlan &plan, const BlockScaling &general,
                                               uint32_t magnitude) {
  const float scale = general.scale;
  VectorScaling scaling;
  scaling.general = general;
  scaling.inverse = scaling.general.empty ? 0.0f : scaling.general.inverse;
  scaling.divisor = scaling.general.empty ? 1.0f : scale;
  scaling.vanishing = DIVIDE ? floorf(scaling.divisor * 0.5f) * 0x1p-149f : 0;
  if (DIVIDE) {
    scaling.slow = !scaling.general.empty && !(scale >= smallest_divisor<Scalar> && scale <= largest_divisor<Scalar>);
  } else {
    scaling.slow = !scaling.general.empty && scaling.general.divide;
    /* A power of two that could not be rounded up: elements may lie outside of the look-up. */
    if (is_looked_up<ENCODING> && plan.rule.rounding && isinf(plan.rule.limit))
      scaling.slow = scaling.slow || scale >= 0x1p127f;
  }
  if (is_at_random<ENCODING>) {
    scaling.slow = scaling.slow || scaling.general.broken || !(scaling.general.empty || is_usual(scale));
  }
  if (is_looked_up<ENCODING> && plan.known_scale && isinf(plan.rule.limit) && !scaling.general.empty) {
    scaling.slow = scaling.slow || !(float_from_bits(magnitude) * fabsf(scaling.inverse) <= LOOKUP_LIMIT);
  }
  return scaling;
}

/* 2^24 · x / divisor for f32 elements and x / divisor for 16-bit ones, rounded to nearest even where the result is
 * normal; 0 exactly where x / divisor in float32 is 0. `inverse` is 1 / divisor rounded to nearest.
 *
 * x · inverse is off by less than 1.5 units in the last place; one correction by the remainder leaves it off by less
 * than one; then a second one gives the quotient rounded to nearest (Markstein, "Computation of elementary functions
 * on the IBM RISC System/6000 processor", 1990, theorem 8.3.1). Nothing of this overflows, and remainders are exact
 * wherever a map may have a threshold, for divisors in the range above. The factor of 2^24 keeps what float32 still
 * has as a quotient from vanishing here; `vanishing`, the largest |x| whose quotient is 0 in float32, makes 0 of the
 * rest. Quotients of 16-bit elements do not vanish: at least 2^-133 / 2^16. */
template <typename Scalar> __device__ inline float quotient(float x, float divisor, float inverse, float vanishing) {
  if (sizeof(Scalar) == 4) x = fabsf(x) <= vanishing ? 0.0f : x * 0x1p24f;
  float result = x * inverse;
  result = fmaf(fmaf(-result, divisor, x), inverse, result);
  return fmaf(fmaf(-result, divisor, x), inverse, result);
}

/* --- the rare general way, one element at a time --- */

template <typename Scalar, Encoding ENCODING>
__device__ inline void quantize_vector_slowly(const QuantizePlan &plan, const BlockScaling &scaling, const Scalar *x,
                                              uint32_t (&codes)[vector_width<Scalar> / 4], Scalar *values) {
#pragma unroll
  for (int k = 0; k < vector_width<Scalar> / 4; k++) {
    codes[k] = 0;
#pragma unroll 1
    for (int i = 4 * k; i < 4 * k + 4; i++) {
      uint32_t random[1] = {};
      if (is_stochastic<ENCODING>) {
        rounding_bits(plan.random, x + i - static_cast<const Scalar *>(plan.x), random);
      }
      const uint8_t code =
          code_of<ENCODING>(plan, *plan.map, scaling, to_float(x[i]), is_stochastic<ENCODING>, random[0]);
      codes[k] |= (uint32_t)code << 8 * (i % 4);
      const float value = decode<ENCODING>(plan, plan.map->value, code) * scaling.scale;
      if (plan.values) from_float(value, true, values[i]);
    }
  }
}

/* --- the fast way --- */

__device__ inline void store_codes(uint8_t *codes, const uint32_t (&word)[1]) {
  *reinterpret_cast<uint32_t *>(codes) = word[0];
}
__device__ inline void store_codes(uint8_t *codes, const uint32_t (&word)[2]) {
  *reinterpret_cast<uint2 *>(codes) = make_uint2(word[0], word[1]);
}

/* A vector's scaled numbers, times 2^24 where they are quotients of f32 elements. DIVIDE: the scaled number is x / absmax, not
 * x · (1 / absmax). */
template <typename Scalar, bool DIVIDE>
__device__ inline void scale_vector(const VectorScaling &scaling, uint4 raw, float (&value)[vector_width<Scalar>]) {
  if (scaling.general.empty) raw = make_uint4(0, 0, 0, 0);
  unpack<Scalar>(raw, value);
#pragma unroll
  for (int k = 0; k < vector_width<Scalar>; k++) {
    value[k] = DIVIDE ? quotient<Scalar>(value[k], scaling.divisor, scaling.inverse, scaling.vanishing)
                      : value[k] * scaling.inverse;
  }
}

/* A vector's codes, as Encoder::encode leaves them. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline void encode_vector(const Encoder<ENCODING> &encoder, const VectorScaling &scaling, uint4 raw,
                                     uint32_t (&word)[vector_width<Scalar> / 4][4]) {
  constexpr int width = vector_width<Scalar>;
  float value[width];
  scale_vector<Scalar, DIVIDE>(scaling, raw, value);
  if (ENCODING == ENCODING_GRID || (ENCODING == ENCODING_MAP && !isinf(scaling.general.limit))) {
    const float limit = scaling.general.limit;
#pragma unroll
    for (int k = 0; k < width; k++) value[k] = fminf(fmaxf(value[k], -limit), limit);
  }
#pragma unroll
  for (int k = 0; k < width / 4; k++) {
    encoder.encode(value + 4 * k, word[k]);
    if (ENCODING != ENCODING_MAP && ENCODING != ENCODING_GRID && scaling.general.broken) word[k][0] = 0x7F7F7F7Fu;
  }
}

/* What those codes decode to, in float32. */
template <Encoding ENCODING, int WORDS>
__device__ inline void decode_vector(const Encoder<ENCODING> &encoder, const VectorScaling &scaling,
                                     const uint32_t (&word)[WORDS][4], float (&value)[4 * WORDS]) {
#pragma unroll
  for (int k = 0; k < WORDS; k++) encoder.decode(word[k], value + 4 * k);
#pragma unroll
  for (int k = 0; k < 4 * WORDS; k++) value[k] *= scaling.general.scale;
}

/* Encodes a vector and, if the plan has values, writes what it decodes to. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline void quantize_vector(const QuantizePlan &plan, const Encoder<ENCODING> &encoder,
                                       const VectorScaling &scaling, uint4 raw,
                                       uint32_t (&codes)[vector_width<Scalar> / 4], Scalar *values_out) {
  uint32_t word[vector_width<Scalar> / 4][4];
  encode_vector<Scalar, ENCODING, DIVIDE>(encoder, scaling, raw, word);
#pragma unroll
  for (int k = 0; k < vector_width<Scalar> / 4; k++) codes[k] = encoder.codes(word[k]);
  if (!plan.values) return;
  float value[vector_width<Scalar>];
  decode_vector<ENCODING>(encoder, scaling, word, value);
  store_vector(reinterpret_cast<uint4 *>(values_out), pack<Scalar>(value));
}

} // namespace

#endif
