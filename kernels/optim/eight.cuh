/* Eight neighbouring elements of a tensor or of its codes: what a thread of the 8-bit updates takes at a time. */
#ifndef FP8_OPTIM_EIGHT_CUH
#define FP8_OPTIM_EIGHT_CUH

#include "vectors.cuh"

namespace {

constexpr int EIGHT = 8;

/* From element i on: all of them in vectors, or the first `valid`, one by one. What is seldom needed is a function that is
 * called: inlined, it would push what always runs out of the multiprocessor's cache of instructions. */
struct Eight {
  int64_t i;
  int valid;
  bool vectors;
};

/* Eight elements as they are in memory. */
template <typename T> struct Words { uint4 word[EIGHT * sizeof(T) / sizeof(uint4)]; };

/* A load that the compiler leaves where it is: all of a step's come before its arithmetic. */
__device__ inline uint4 load_vector(const uint4 *from) {
  uint4 word;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(from));
  return word;
}
__device__ inline uint2 load_vector(const uint2 *from) {
  uint2 word;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(word.x), "=r"(word.y) : "l"(from));
  return word;
}

template <typename T> __device__ inline void to_floats(const Words<T> &words, float (&value)[EIGHT]) {
  unpack<T>(words.word[0], value);
}
template <> __device__ inline void to_floats(const Words<float> &words, float (&value)[EIGHT]) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint4 word = words.word[half];
    value[4 * half] = float_from_bits(word.x);
    value[4 * half + 1] = float_from_bits(word.y);
    value[4 * half + 2] = float_from_bits(word.z);
    value[4 * half + 3] = float_from_bits(word.w);
  }
}
template <typename T> __device__ inline Words<T> to_words(const float (&value)[EIGHT]) { return {{pack<T>(value)}}; }
template <> __device__ inline Words<float> to_words(const float (&value)[EIGHT]) {
  Words<float> words;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    words.word[half] = make_uint4(float_to_bits(value[4 * half]), float_to_bits(value[4 * half + 1]),
                                  float_to_bits(value[4 * half + 2]), float_to_bits(value[4 * half + 3]));
  }
  return words;
}

template <typename T> __device__ inline Words<T> load_words(const void *data, const Eight &at) {
  Words<T> words;
  const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const T *>(data) + at.i);
#pragma unroll
  for (int k = 0; k < (int)(sizeof words / sizeof(uint4)); k++) words.word[k] = load_vector(from + k);
  return words;
}

/* The first `valid`, and zeros. */
template <typename T> __device__ __noinline__ Words<T> load_singly(const void *data, Eight at) {
  float value[EIGHT];
#pragma unroll
  for (int k = 0; k < EIGHT; k++) value[k] = k < at.valid ? to_float(static_cast<const T *>(data)[at.i + k]) : 0.0f;
  return to_words<T>(value);
}

template <typename T> __device__ __noinline__ void store_singly(void *data, Eight at, Words<T> words) {
  float value[EIGHT];
  to_floats(words, value);
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (k < at.valid) from_float(value[k], true, static_cast<T *>(data)[at.i + k]);
  }
}

template <typename T> __device__ inline void store_words(void *data, const Eight &at, const Words<T> &words) {
  uint4 *to = reinterpret_cast<uint4 *>(static_cast<T *>(data) + at.i);
#pragma unroll
  for (int k = 0; k < (int)(sizeof words / sizeof(uint4)); k++) store_vector(to + k, words.word[k]);
}

__device__ __noinline__ uint2 load_codes_singly(const void *data, Eight at) {
  uint32_t word[2] = {};
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (k < at.valid) word[k / 4] |= (uint32_t) static_cast<const uint8_t *>(data)[at.i + k] << 8 * (k % 4);
  }
  return make_uint2(word[0], word[1]);
}

__device__ __noinline__ void store_codes_singly(void *data, Eight at, uint2 words) {
  uint8_t *codes = static_cast<uint8_t *>(data) + at.i;
  for (int k = 0; k < at.valid; k++) codes[k] = (uint8_t)((k < 4 ? words.x : words.y) >> 8 * (k % 4));
}

__device__ inline uint2 load_codes(const void *data, const Eight &at) {
  if (!at.vectors) return load_codes_singly(data, at);
  return load_vector(reinterpret_cast<const uint2 *>(static_cast<const uint8_t *>(data) + at.i));
}

__device__ inline void store_codes(void *data, const Eight &at, uint2 words) {
  if (at.vectors) {
    *reinterpret_cast<uint2 *>(static_cast<uint8_t *>(data) + at.i) = words;
  } else {
    store_codes_singly(data, at, words);
  }
}

template <typename T> __device__ inline void store_eight(void *data, const Eight &at, const float (&value)[EIGHT]) {
  if (at.vectors) {
    store_words<T>(data, at, to_words<T>(value));
  } else {
    store_singly<T>(data, at, to_words<T>(value));
  }
}

} // namespace

#endif
