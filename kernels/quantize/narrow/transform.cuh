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

/* --- groups of 64, by two warps for 64 rows --- */

/* A row. */
template <typename Scalar>
__device__ inline void transform_row(const PatchState &state, uint4 *vectors, int turn, uint32_t (&largest)[4]) {
  const uint4 *signs = reinterpret_cast<const uint4 *>(state.sign);
  float value[64];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float of_half[32];
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const uint4 x = vectors[(4 * half + k) ^ turn], sign = signs[4 * half + k];
      float of_vector[8];
      unpack<Scalar>(make_uint4(x.x ^ sign.x, x.y ^ sign.y, x.z ^ sign.z, x.w ^ sign.w), of_vector);
#pragma unroll
      for (int i = 0; i < 8; i++) of_half[8 * k + i] = of_vector[i];
    }
    add_and_subtract(of_half);
#pragma unroll
    for (int i = 0; i < 32; i++) value[32 * half + i] = of_half[i];
  }
  add_and_subtract_apart<32, 64>(value);
#pragma unroll
  for (int k = 0; k < VECTORS; k++) {
    float of_vector[8];
#pragma unroll
    for (int i = 0; i < 8; i++) of_vector[i] = value[8 * k + i] * state.factor;
    const uint4 x = pack<Scalar>(of_vector);
    vectors[k ^ turn] = x;
    largest[k / 2] = raise<Scalar>(k % 2 == 0 ? 0 : largest[k / 2], x);
  }
}

/* Where the lanes of a warp that have the same two columns, 16 rows each, leave and find what they give one another: in the
 * place of those words, which are 64 rows of two vectors. Of a column a lane leaves four times four rows, and finds four
 * rows of each lane: 2 m, 2 m + 1, 2 m + 8 and 2 m + 9, m being its number. */
struct ColumnExchange {
  uint32_t to, from, words;

  template <int TEAM> __device__ ColumnExchange(const PatchStage<TEAM> &stage, int first_vector) {
    const int m = threadIdx.x % WARP / 8, c = threadIdx.x % 8, row = GROUP * m + c;
    to = shared_address(&stage.vector[row][first_vector ^ turn_of(row)]);
    from = shared_address(&stage.vector[c + 8 * (m & 1)][first_vector ^ c ^ m >> 1]);
    words = shared_address(&stage.vector[2 * m][(first_vector + c / 4) ^ 2 * m]) + c % 4 * 4;
  }
  /* Of a place in lane 0's rows, that in those of lane m. */
  static __device__ uint32_t in_rows_of(int m, uint32_t place) {
    return (place ^ (m & 1) << 6 ^ (m & 2) << 4) + m * GROUP * PATCH_COLUMNS * 2;
  }

  __device__ void exchange(float (&value)[GROUP]) const {
    __syncwarp();
#pragma unroll
    for (int m = 0; m < 4; m++) {
      asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};"
                   :
                   : "r"((to ^ m >> 1 << 4) + (m & 1) * 8 * PATCH_COLUMNS * 2), "f"(value[2 * m]),
                     "f"(value[2 * m + 1]), "f"(value[2 * m + 8]), "f"(value[2 * m + 9])
                   : "memory");
    }
    __syncwarp();
#pragma unroll
    for (int m = 0; m < 4; m++) {
      asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(value[4 * m]), "=f"(value[4 * m + 1]), "=f"(value[4 * m + 2]), "=f"(value[4 * m + 3])
                   : "r"(in_rows_of(m, from))
                   : "memory");
    }
  }
  /* Word i % 4 of what was found in lane i / 4's rows. */
  __device__ void write(const uint32_t (&word)[GROUP]) const {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
      asm volatile("st.shared.u32 [%0], %1;"
                   :
                   : "r"((in_rows_of(i / 4, words) ^ (i & 1) << 4) + ((i & 1) + (i & 2) * 4) * PATCH_COLUMNS * 2),
                     "r"(word[i])
                   : "memory");
    }
  }
};

/* Sixteen words of two columns become those that the exchange finds. */
template <typename Scalar>
__device__ inline void transform_long(const PatchState &state, const ColumnExchange &exchange, uint32_t (&x)[GROUP]) {
  float low[GROUP], high[GROUP];
  unpack_group<Scalar>(state.sign + threadIdx.x % WARP / 8 * GROUP, x, low, high);
  add_and_subtract(low);
  add_and_subtract(high);
  exchange.exchange(low);
  add_and_subtract_apart<4, GROUP>(low);
  exchange.exchange(high);
  add_and_subtract_apart<4, GROUP>(high);
#pragma unroll
  for (int j = 0; j < GROUP; j++) x[j] = pack_word(low[j] * state.factor, high[j] * state.factor, Scalar());
  exchange.write(x);
}

} // namespace

#endif
