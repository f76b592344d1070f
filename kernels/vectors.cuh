/* Sixteen bytes of f32, f16 or bf16 elements at a time, in as few instructions as the conversions to and from float32
 * take: the same bits as common.cuh's for everything but NaN, which stays NaN. */
#ifndef FP8_VECTORS_CUH
#define FP8_VECTORS_CUH

#include "common.cuh"

/* Scalar's elements in sixteen bytes. */
template <typename Scalar> constexpr int vector_width = 16 / (int)sizeof(Scalar);

/* A load that leaves the cache to others. */
__device__ inline uint4 read_once(const uint4 *data) { return __ldcs(data); }

/* A store that the compiler would do in parts. */
__device__ inline void store_vector(uint4 *to, uint4 word) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(to), "r"(word.x), "r"(word.y), "r"(word.z), "r"(word.w)
               : "memory");
}

__device__ inline void unpack_word(uint32_t word, BFloat16, float &low, float &high) {
  low = float_from_bits(word << 16);
  high = float_from_bits(word & 0xFFFF0000u);
}

__device__ inline void unpack_word(uint32_t word, Half, float &low, float &high) {
#ifdef __CUDA_ARCH__
  asm("{ .reg .f16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
      : "=f"(low), "=f"(high)
      : "r"(word));
#else
  low = f16_to_float((uint16_t)word);
  high = f16_to_float((uint16_t)(word >> 16));
#endif
}

__device__ inline uint32_t pack_word(float low, float high, BFloat16) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return bf16_from_float(low) | (uint32_t)bf16_from_float(high) << 16;
#endif
}

__device__ inline uint32_t pack_word(float low, float high, Half) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  return f16_from_float(low) | (uint32_t)f16_from_float(high) << 16;
#endif
}

template <typename Scalar> __device__ inline void unpack(const uint4 &raw, float (&value)[8]) {
  unpack_word(raw.x, Scalar(), value[0], value[1]);
  unpack_word(raw.y, Scalar(), value[2], value[3]);
  unpack_word(raw.z, Scalar(), value[4], value[5]);
  unpack_word(raw.w, Scalar(), value[6], value[7]);
}

template <typename Scalar> __device__ inline void unpack(const uint4 &raw, float (&value)[4]) {
  value[0] = float_from_bits(raw.x);
  value[1] = float_from_bits(raw.y);
  value[2] = float_from_bits(raw.z);
  value[3] = float_from_bits(raw.w);
}

template <typename Scalar> __device__ inline uint4 pack(const float (&value)[8]) {
  return make_uint4(pack_word(value[0], value[1], Scalar()), pack_word(value[2], value[3], Scalar()),
                    pack_word(value[4], value[5], Scalar()), pack_word(value[6], value[7], Scalar()));
}

template <typename Scalar> __device__ inline uint4 pack(const float (&value)[4]) {
  return make_uint4(float_to_bits(value[0]), float_to_bits(value[1]), float_to_bits(value[2]), float_to_bits(value[3]));
}

/* --- bytes --- */

/* Byte c of result[r] becomes byte r of result[c]. */
__device__ inline void transpose_bytes(uint32_t (&word)[4]) {
  const uint32_t low01 = __byte_perm(word[0], word[1], 0x5140), high01 = __byte_perm(word[0], word[1], 0x7362);
  const uint32_t low23 = __byte_perm(word[2], word[3], 0x5140), high23 = __byte_perm(word[2], word[3], 0x7362);
  word[0] = __byte_perm(low01, low23, 0x5410);
  word[1] = __byte_perm(low01, low23, 0x7632);
  word[2] = __byte_perm(high01, high23, 0x5410);
  word[3] = __byte_perm(high01, high23, 0x7632);
}

/* --- largest magnitudes: running maxima in a word, of both halves for 16-bit types, and their bits as float32 --- */

template <typename Scalar> __device__ inline uint32_t raise(uint32_t largest, uint32_t word) {
  if (sizeof(Scalar) == 2) return __vmaxu2(largest, word & 0x7FFF7FFFu);
  return max(largest, word & 0x7FFFFFFFu);
}

template <typename Scalar> __device__ inline uint32_t raise(uint32_t largest, const uint4 &raw) {
  largest = raise<Scalar>(largest, raw.x);
  largest = raise<Scalar>(largest, raw.y);
  largest = raise<Scalar>(largest, raw.z);
  return raise<Scalar>(largest, raw.w);
}

__device__ inline uint32_t magnitude_bits(uint32_t largest, float) { return largest; }
__device__ inline uint32_t magnitude_bits(uint32_t largest, BFloat16) {
  return max(largest << 16, largest & 0xFFFF0000u);
}
__device__ inline uint32_t magnitude_bits(uint32_t largest, Half) {
  return float_to_bits(f16_to_float((uint16_t)max(largest & 0xFFFFu, largest >> 16)));
}

/* Thread blocks for every multiprocessor in grids that leave maxima: each of the thread blocks that read them reads them
 * all. */
enum { MAXIMA_WAVES = 8 };

/* The largest of a thread block of THREADS, to its word of `maxima`. */
template <int THREADS> __device__ inline void write_maximum(uint32_t *maxima, uint32_t magnitude) {
  magnitude = combine_across<THREADS>(magnitude, [](uint32_t a, uint32_t b) { return max(a, b); });
  if (threadIdx.x == 0) maxima[blockIdx.x] = magnitude;
}

#endif
