/* The nearest entry of a map by one table look-up: for kernels where the search itself would be the bottleneck.
 *
 * A scaled number s is multiplied by a power of two that makes everything nearer to zero than the map's smallest
 * threshold subnormal. Read as an integer that ascends with the number (the magnitude's bits, inverted below zero), the
 * product then lies in a small range around 0, and its upper bits name a bucket: a fraction of a binade, so narrow that
 * at most one threshold falls into it. A bucket's entry is (its first code << 24), minus the integer at its beginning,
 * plus 2^24, minus the threshold's distance from there: adding the integer itself carries into the code from the
 * threshold on. Ties and ±0 are folded into the thresholds. */
#ifndef FP8_CORE_LOOKUP_H
#define FP8_CORE_LOOKUP_H

#include <math.h>

#include "core/portable.h"

enum { LOOKUP_HALF = 2048 };

/* Numbers up to this magnitude may be looked up in a map of a script: a little more than x · (1 / absmax) reaches. */
#define LOOKUP_LIMIT 1.25f

typedef struct MapLookup {
  int32_t half; /* buckets on either side of 0; 0 where the map has thresholds too close together, or none at all */
  int32_t shift;
  float factor;
  int32_t positive; /* where half is 0: buckets from 0 on that numbers from 0 on can be looked up in; 0 for none */
  uint32_t entry[2 * LOOKUP_HALF]; /* from bucket -half on, at a multiple of 16 bytes */
} MapLookup;

/* Fills the look-up of the map that map_nearest searches with these midpoints and starts, for numbers up to `limit`. */
void lookup_build(MapLookup *lookup, const float *midpoint, const uint8_t *start, float limit);

/* The same for the last entry that is not above a number (0 for numbers below all), as stochastic rounding asks for it. */
void lookup_build_below(MapLookup *lookup, const float *value, const float *midpoint, const uint8_t *start,
                        float limit);

/* A word whose upper 8 bits are the code of `scaled`, which is at most the limit in magnitude; `origin` is the entry
 * of bucket 0. */
PORTABLE uint32_t lookup_word(const uint32_t *origin, int shift, float factor, float scaled) {
  /* The sum makes +0 of -0 and leaves the sign of what underflows. */
  uint32_t bits = float_to_bits(fmaf(scaled, factor, 0.0f));
  int32_t ordered = (int32_t)(bits ^ ((uint32_t)((int32_t)bits >> 31) & 0x7FFFFFFFu));
  return origin[ordered >> shift] + (uint32_t)ordered;
}

#endif
