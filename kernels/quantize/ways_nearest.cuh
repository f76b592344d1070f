/* A lane's share of a patch, rounded to nearest: what quantize_vector (ways_vector.cuh) gives for each vector where all rows
 * exist and no factor is rare, in fewer instructions. What rows share is read before the first of them. */
#ifndef FP8_WAYS_NEAREST_CUH
#define FP8_WAYS_NEAREST_CUH

#include "quantize/warp_patches.cuh"
#include "quantize/ways_vector.cuh"

namespace {

/* Four scaled numbers as words, and words as codes or as numbers times their scales: by the chip's conversions, word[0]
 * being the four codes. */
template <Encoding ENCODING> struct Nearest {
  __device__ explicit Nearest(const WayPlan &) {}
  __device__ void round(const float *scaled, uint32_t (&word)[4]) const {
    word[0] = Encoder<ENCODING>::pair(scaled[0], scaled[1]) | Encoder<ENCODING>::pair(scaled[2], scaled[3]) << 16;
  }
  __device__ uint32_t codes(const uint32_t (&word)[4], const float *) const { return word[0]; }
  __device__ void values(const uint32_t (&word)[4], const float *scale, float *value) const {
    Encoder<ENCODING>::numbers(word[0], value[0], value[1]);
    Encoder<ENCODING>::numbers(word[0] >> 16, value[2], value[3]);
#pragma unroll
    for (int k = 0; k < 4; k++) value[k] *= scale[k];
  }
};

/* By exponents, as grid_nearest: words are magnitudes, and signs those of the scaled numbers, which values replace. */
template <> struct Nearest<ENCODING_GRID> {
  float limit, large, to_code;
  uint32_t least;
  int shift;

  __device__ explicit Nearest(const WayPlan &way) {
    const FormatGrid &grid = way.quantize.grid;
    limit = way.quantize.rule.limit;
    large = float_from_bits((uint32_t)(150 - grid.bits) << 23 | 0x00400000u);
    least = (uint32_t)(grid.exponent + 127) << 23;
    to_code = float_from_bits((uint32_t)(127 - grid.exponent) << 23) * 0x1p-126f;
    shift = 23 - grid.bits;
  }
  __device__ void round(const float *scaled, uint32_t (&word)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float cut = fminf(fabsf(scaled[k]), limit);
      const float sum = float_from_bits(max(float_to_bits(cut) & 0x7F800000u, least)) * large;
      word[k] = float_to_bits((cut + sum) - sum);
    }
  }
  /* As grid_code: 128, and so many steps above or below. */
  __device__ uint32_t codes(const uint32_t (&word)[4], const float *scaled) const {
    uint32_t steps = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) steps |= float_to_bits(float_from_bits(word[k]) * to_code) >> shift << 8 * k;
    const uint32_t negative = signs_of_four(scaled);
    return 0x80808080u + (steps & ~negative) - (steps & negative);
  }
  /* 0 has no sign after a sum. */
  __device__ void values(const uint32_t (&word)[4], const float *scale, float *value) const {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const uint32_t factor = float_to_bits(scale[k]) | (float_to_bits(value[k]) & 0x80000000u);
      value[k] = __fmaf_rn(float_from_bits(word[k]), float_from_bits(factor), 0.0f);
    }
  }
};

/* factors_at(j, k): those of element k in row j. */
template <typename Scalar, Encoding ENCODING, typename Found>
__device__ inline void round_rows(const WayPlan &way, const Found &factors_at, const uint4 (&vector)[ROWS][WARP],
                                  int64_t columns, int64_t at) {
  constexpr int width = vector_width<Scalar>;
  const Nearest<ENCODING> nearest(way);
  uint8_t *codes = way.quantize.codes;
  Scalar *values = static_cast<Scalar *>(way.quantize.values);
#pragma unroll 2
  for (int j = 0; j < ROWS; j++, at += columns) {
    float value[width], scale[width];
    Packed<uint32_t, width / 4> four;
    unpack<Scalar>(vector[j][threadIdx.x % WARP], value);
#pragma unroll
    for (int k = 0; k < width; k++) {
      const Factors factors = factors_at(j, k);
      value[k] *= factors.inverse;
      scale[k] = factors.scale;
    }
#pragma unroll
    for (int k = 0; k < width; k += 4) {
      uint32_t word[4];
      nearest.round(value + k, word);
      if (codes) four.element[k / 4] = nearest.codes(word, value + k);
      if (values) nearest.values(word, scale + k, value + k);
    }
    if (codes) *reinterpret_cast<Packed<uint32_t, width / 4> *>(codes + at) = four;
    if (values) store_vector(reinterpret_cast<uint4 *>(values + at), pack<Scalar>(value));
  }
}

/* False for what is left to quantize_vector. A whole warp together; rare: whether a factor is that this lane has found. */
template <typename Scalar, typename Found>
__device__ inline bool rounds_rows(const WayPlan &way, const Found &factors_at, bool rare, int have,
                                   const uint4 (&vector)[ROWS][WARP], int64_t columns, int64_t at) {
  const QuantizePlan &plan = way.quantize;
  if (sizeof(Scalar) == 4 && plan.values && plan.values_dtype != DTYPE_F32) return false;
  if (!plan.map && !FLOAT8_CONVERSIONS) return false;
  if (!__all_sync(all_lanes, have == ROWS && !rare)) return false;
  if (plan.map) {
    round_rows<Scalar, ENCODING_GRID>(way, factors_at, vector, columns, at);
  } else if (plan.format == DTYPE_E4M3) {
    round_rows<Scalar, ENCODING_E4M3>(way, factors_at, vector, columns, at);
  } else {
    round_rows<Scalar, ENCODING_E5M2>(way, factors_at, vector, columns, at);
  }
  return true;
}

} // namespace

#endif
