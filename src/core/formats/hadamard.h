/* The Hadamard transform of groups of neighbouring elements, with signs: y = x · (diag(s) · H / √n), H the Sylvester matrix
 * with H[i][j] = (-1)^popcount(i AND j). Its inverse is its transpose, so a product's two operands may both be transformed
 * along what it sums over. */
#ifndef FP8_CORE_HADAMARD_H
#define FP8_CORE_HADAMARD_H

#include <math.h>

#include "core/portable.h"

enum { HADAMARD_MOST = 128 };

/* x as a matrix (its last dimension, and all others) is transformed along its rows or, if `down`, its columns, in groups of
 * `length`, 16, 32, 64 or 128; what is left of a row or column after whole groups stays as it is.
 *
 * In float32, and rounded once: the signs, then sums and differences of elements h = 1, 2, 4 … apart, the sum in the place
 * of the first one, then the factor 1 / √n rounded to float32. */
typedef struct HadamardRule {
  int length;
  bool down;
  uint32_t negative[HADAMARD_MOST / 32]; /* bit i % 32 of word i / 32: whether s[i] is -1 */
  uint64_t
      drawn; /* not 0 in a graph where signs are drawn at every replay: they are the words of random block drawn - 1 */
} HadamardRule;

PORTABLE float hadamard_signed(const HadamardRule *rule, int i, float value) {
  return rule->negative[i / 32] >> (i % 32) & 1 ? -value : value;
}

PORTABLE float hadamard_factor(int length) { return (float)(1.0 / sqrt((double)length)); }

#endif
