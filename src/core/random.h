/* Counter-based random numbers: element i of a draw depends only on (seed, offset, i), so the same seed gives the same
 * numbers on every device and for every number of threads. */
#ifndef FP8_CORE_RANDOM_H
#define FP8_CORE_RANDOM_H

#include <math.h>

#include "core/portable.h"

/* Where a draw of n elements takes its bits: elements 4k … 4k + 3 come from the Philox block at counter offset + k. */
typedef struct RandomSource {
  uint64_t seed;
  uint64_t offset;
} RandomSource;

typedef struct RandomBlock {
  uint32_t word[4];
} RandomBlock;

/* a · b, in two words. */
PORTABLE void random_product(uint32_t a, uint32_t b, uint32_t *high, uint32_t *low) {
#ifdef __CUDA_ARCH__
  asm("{ .reg .u64 product; mul.wide.u32 product, %2, %3; mov.b64 {%0, %1}, product; }"
      : "=r"(*low), "=r"(*high)
      : "r"(a), "r"(b));
#else
  uint64_t product = (uint64_t)a * b;
  *high = (uint32_t)(product >> 32);
  *low = (uint32_t)product;
#endif
}

/* What the two halves of the key grow by from round to round. */
#define RANDOM_KEY_0 0x9E3779B9u
#define RANDOM_KEY_1 0xBB67AE85u
enum { RANDOM_ROUNDS = 10 };

/* One round of Philox4x32. */
PORTABLE void random_round(RandomBlock *block, uint32_t k0, uint32_t k1) {
  uint32_t *c = block->word, high0, low0, high1, low1;
  random_product(0xD2511F53u, c[0], &high0, &low0);
  random_product(0xCD9E8D57u, c[2], &high1, &low1);
  c[0] = high1 ^ c[1] ^ k0;
  c[2] = high0 ^ c[3] ^ k1;
  c[1] = low1;
  c[3] = low0;
}

PORTABLE RandomBlock random_counter(uint64_t counter) {
  RandomBlock block = {{(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0}};
  return block;
}

/* Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), counter (counter, 0), key
 * seed. */
PORTABLE RandomBlock random_block(RandomSource source, uint64_t block) {
  RandomBlock words = random_counter(source.offset + block);
  uint32_t k0 = (uint32_t)source.seed, k1 = (uint32_t)(source.seed >> 32);
  for (int round = 0; round < RANDOM_ROUNDS; round++) {
    random_round(&words, k0, k1);
    k0 += RANDOM_KEY_0;
    k1 += RANDOM_KEY_1;
  }
  return words;
}

/* --- stochastic rounding: 16 bits a value --- */

/* Element i decides by half a word: word i / 2 % 4 of the block at counter offset + i / 8, the upper half if i is even. The
 * other half, its neighbour's, stands behind it for what is finer, so that each of the two sees 32 uniform bits. So the
 * expected value of a rounding is that of a word of its own: no fraction of a step is too small to count, but for what
 * the rounding itself leaves out. That both round up is as probable as if they were independent, to 2^-15. */
PORTABLE uint32_t rounding_bits_of(uint32_t word, int64_t i) { return i % 2 == 0 ? word : word >> 16 | word << 16; }

/* The words that a draw for so many elements takes: whole blocks. */
PORTABLE int64_t rounding_words(int64_t count) { return (count + 7) / 8 * 4; }

/* --- numbers of random words --- */

/* Uniform in [0, 1) in steps of 2^-bits, bits at most 24. */
PORTABLE float random_uniform(uint32_t word, int bits) {
  return (float)(word >> (32 - bits)) * float_from_bits((uint32_t)(127 - bits) << 23);
}

/* Natural logarithm for normal x in (0, 1], relative error below 4e-7: the exponent times ln 2 plus the series of
 * 2 atanh((m - 1) / (m + 1)) for a mantissa m in [sqrt(1/2), sqrt(2)). */
PORTABLE float random_log(float x) {
  uint32_t bits = float_to_bits(x);
  int exponent = (int)(bits >> 23) - 127;
  float mantissa = float_from_bits((bits & 0x007FFFFF) | 0x3F800000);
  if (mantissa > 1.41421356f) {
    mantissa = mantissa * 0.5f;
    exponent = exponent + 1;
  }
  float t = (mantissa - 1.0f) / (mantissa + 1.0f);
  float s = t * t;
  float series = 0.22222222f + s * 0.18181818f;
  series = 0.28571429f + s * series;
  series = 0.4f + s * series;
  series = 0.66666667f + s * series;
  series = 2.0f + s * series;
  return (float)exponent * 0.693147181f + t * series;
}

/* Standard normal by inversion of its distribution function: PPND7 of Wichura's algorithm AS 241 (1988), relative error
 * about 1e-7. The word's top bit is the sign, the others the tail probability in (0, 0.5). */
PORTABLE float random_normal(uint32_t word) {
  float tail = ((float)(word & 0x7FFFFFFF) + 0.5f) * 0x1p-32f;
  float q = 0.5f - tail;
  float value;
  if (q <= 0.425f) {
    float r = 0.180625f - q * q;
    float numerator = 3.3871327179f + r * (50.434271938f + r * (159.29113202f + r * 59.109374720f));
    float denominator = 1.0f + r * (17.895169469f + r * (78.757757664f + r * 67.187563600f));
    value = q * numerator / denominator;
  } else {
    float r = sqrtf(-random_log(tail));
    if (r <= 5.0f) {
      r = r - 1.6f;
      float numerator = 1.4234372777f + r * (2.7568153900f + r * (1.3067284816f + r * 0.17023821103f));
      float denominator = 1.0f + r * (0.73700164250f + r * 0.12021132975f);
      value = numerator / denominator;
    } else {
      r = r - 5.0f;
      float numerator = 6.6579051150f + r * (3.0812263860f + r * (0.42868294337f + r * 0.017337203997f));
      float denominator = 1.0f + r * (0.24197894225f + r * 0.012258202635f);
      value = numerator / denominator;
    }
  }
  return (word & 0x80000000u) ? -value : value;
}

/* Uniform integer in [low, low + range) from 64 random bits; the bias is below range / 2^64. */
PORTABLE int64_t random_integer(uint32_t high_word, uint32_t low_word, int64_t low, uint64_t range) {
  uint64_t bits = ((uint64_t)high_word << 32) | low_word;
#ifdef __CUDA_ARCH__
  uint64_t product = __umul64hi(bits, range);
#else
  uint64_t product = (uint64_t)(((unsigned __int128)bits * range) >> 64);
#endif
  return (int64_t)((uint64_t)low + product);
}

#endif
