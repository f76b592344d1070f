/* Codes of values under a map, bit for bit those of map_nearest and map_stochastic, in a form that takes the same
 * few steps for every element. */
#ifndef FP8_CPU_QUANTIZE_SEARCH_H
#define FP8_CPU_QUANTIZE_SEARCH_H

#include "core/formats/map.h"
#include "cpu/convert.h"
#include "cpu/vectorize.h"

/* The values next to a number, equal ones where there is only one; `first` is taken on the midpoint. */
typedef struct SearchPair {
  float first, second;
} SearchPair;

/* A code is the number of thresholds at or below a value. The upper 16 bits of a value name a range of float32; the upper
 * 16 bits of its `entry` are the number of thresholds at or below the whole range. With one more threshold inside, the
 * lower bits are such that the value's lower bits, added to the entry, carry into the code from the threshold on; where a
 * range has several, a binary search over them gives the rest. */
typedef struct Search {
  float value[MAP_SIZE + 1];     /* the map's entries, then infinity */
  float threshold[2 * MAP_SIZE]; /* ascending, then NaN, which no value reaches */
  int steps;                     /* of the binary search: 0 for the usual maps */
  bool has_pairs;                /* to nearest, and no range has several thresholds between different entries */
  uint32_t entry[1 << 16];
  SearchPair pair[1 << 16]; /* of each range */
} Search;

/* The search for a map, to the nearest entry, or to the last entry at or below the value; it lives as long as the map.
 * NULL with an error if there is no memory. */
const Search *search_of(Map *map, bool stochastic);

/* Codes of n values (at most CHUNK), none of them NaN. */
void search_codes(const Search *search, uint8_t *restrict codes, const float *restrict values, int n);

/* The pairs of n values (at most CHUNK, none of them NaN), by a search to the nearest; and what a value becomes by its pair. */
void search_pairs(const Search *search, SearchPair *pairs, const float *values, int n);

INLINED float search_midpoint(float a, float b) { return (a + b) * 0.5f; }

INLINED float search_nearer(SearchPair pair, float value) {
  float first = pair.first, second = pair.second, midpoint = search_midpoint(first, second);
  float smaller = first < second ? first : second, larger = first > second ? first : second;
  float nearer = value > midpoint ? larger : smaller;
  return value == midpoint ? first : nearer;
}

/* What n values become, in their place. */
void search_values(const Search *search, float *values, int n);

/* Moves codes up by one where the value has gone far enough to the next entry, by 32 random bits each. `search` is one
 * for stochastic rounding. */
void search_round_up(const Search *search, uint8_t *restrict codes, const float *restrict values,
                     const uint32_t *restrict bits, int n);

/* out = value[code] · scale */
void search_decode(const float *restrict entry, float *restrict out, const uint8_t *restrict codes, float scale, int n);

#endif
