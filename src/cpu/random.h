/* Runs of random words, and of bits for stochastic rounding. */
#ifndef FP8_CPU_RANDOM_H
#define FP8_CPU_RANDOM_H

#include "core/random.h"
#include "cpu/parallel.h"

/* Room for two words of each element of a chunk, and the rest of the blocks that its ends lie in. */
enum { RANDOM_WORDS = 2 * CHUNK + 8 };

/* Words first … first + n - 1 (n at most 2 · CHUNK) of a draw, word 4k + j being word[j] of its block k; they lie in
 * `buffer`. */
const uint32_t *random_words(RandomSource source, uint64_t first, int n, uint32_t buffer[RANDOM_WORDS]);

/* The bits of elements first … first + n - 1 (n at most CHUNK) of a stochastic rounding; they lie in `buffer`. */
const uint32_t *rounding_bits(RandomSource source, int64_t first, int n, uint32_t buffer[RANDOM_WORDS]);

#endif
