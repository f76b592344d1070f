/* For headers whose functions the CUDA kernels share with the CPU, so that both give the same bits. They use IEEE
 * float32 operations only, and both sides are compiled without contraction of a * b + c into a fused operation. */
#ifndef FP8_CORE_PORTABLE_H
#define FP8_CORE_PORTABLE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define PORTABLE static __host__ __device__ inline
#else
#include <string.h>
#define PORTABLE static inline
#endif

PORTABLE uint32_t float_to_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

PORTABLE float float_from_bits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

#endif
