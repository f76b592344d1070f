/* Hadamard transforms (core/formats/hadamard.h) of what a lane holds of a patch: 16 rows of two neighbouring columns, or 32
 * columns of a row. What is beyond that goes by shuffles. */
#ifndef FP8_NARROW_TRANSFORM_CUH
#define FP8_NARROW_TRANSFORM_CUH

#include "quantize/narrow/patch.cuh"

namespace {

/* 32 neighbouring columns of a row, of which the lane beside has the others. */
template <typename Scalar>
__device__ inline void transform_half(const HadamardRule &rule, const PatchState &state, uint4 (&x)[4]) {
  const uint4 *signs = reinterpret_cast<const uint4 *>(state.sign) + threadIdx.x % 2 * 4;
  float value[32];
#pragma unroll
  for (int k = 0; k < 4; k++) {
    const uint4 sign = signs[k];
    float of_vector[8];
    unpack<Scalar>(make_uint4(x[k].x ^ sign.x, x[k].y ^ sign.y, x[k].z ^ sign.z, x[k].w ^ sign.w), of_vector);
#pragma unroll
    for (int i = 0; i < 8; i++) value[8 * k + i] = of_vector[i];
  }
  add_and_subtract_apart<1, 16>(value);
  if (rule.length > 16) add_and_subtract_apart<16, 32>(value);
  if (rule.length > 32) {
    const float sign = sign_of_lane(1);
#pragma unroll
    for (int i = 0; i < 32; i++) value[i] = add_or_subtract(value[i], 1, sign);
  }
#pragma unroll
  for (int k = 0; k < 4; k++) {
    float of_vector[8];
#pragma unroll
    for (int i = 0; i < 8; i++) of_vector[i] = value[8 * k + i] * state.factor;
    x[k] = pack<Scalar>(of_vector);
  }
}

__device__ inline void unpack_signed(uint32_t word, uint32_t sign, BFloat16, float &low, float &high) {
  low = float_from_bits((word << 16) + sign);
  high = float_from_bits((word & 0xFFFF0000u) ^ sign);
}
__device__ inline void unpack_signed(uint32_t word, uint32_t sign, Half, float &low, float &high) {
  unpack_word(word ^ (sign | sign >> 16), Half(), low, high);
}

/* Sixteen words of two columns. */
template <typename Scalar>
__device__ inline void unpack_group(const uint32_t *signs, const uint32_t (&x)[GROUP], float (&low)[GROUP],
                                    float (&high)[GROUP]) {
#pragma unroll
  for (int j = 0; j < GROUP; j += 4) {
    const uint4 sign = *reinterpret_cast<const uint4 *>(signs + j);
    unpack_signed(x[j], sign.x, Scalar(), low[j], high[j]);
    unpack_signed(x[j + 1], sign.y, Scalar(), low[j + 1], high[j + 1]);
    unpack_signed(x[j + 2], sign.z, Scalar(), low[j + 2], high[j + 2]);
    unpack_signed(x[j + 3], sign.w, Scalar(), low[j + 3], high[j + 3]);
  }
}

/* Of sixteen rows. */
template <typename Scalar>
__device__ inline void transform_words(const HadamardRule &rule, const PatchState &state, int row, int beside,
                                       uint32_t (&x)[GROUP]) {
  const float factor = state.factor;
  float low[GROUP], high[GROUP];
  unpack_group<Scalar>(state.sign + (row & (rule.length - 1)), x, low, high);
  add_and_subtract(low);
  add_and_subtract(high);
#pragma unroll 1
  for (int step = beside; step < beside * rule.length >> 4; step *= 2) {
    const float sign = sign_of_lane(step);
#pragma unroll
    for (int j = 0; j < GROUP; j++) {
      low[j] = add_or_subtract(low[j], step, sign);
      high[j] = add_or_subtract(high[j], step, sign);
    }
  }
#pragma unroll
  for (int j = 0; j < GROUP; j++) x[j] = pack_word(low[j] * factor, high[j] * factor, Scalar());
}

} // namespace

#endif
