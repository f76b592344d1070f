/* Codes of values under a map, bit for bit those of map_nearest and map_stochastic, in a form that takes the same
 * few steps for every element. */
#ifndef FP8_CPU_QUANTIZE_SEARCH_H
#define FP8_CPU_QUANTIZE_SEARCH_H

#include "core/formats/map.h"
#include "cpu/convert.h"

/* A code is the number of thresholds at or below a value. The upper 16 bits of a value name a range of float32;
 * `start` has the number of thresholds at or below the whole range, and a binary search over the few inside it gives
 * the rest. */
typedef struct Search {
  float value[MAP_SIZE + 1];     /* the map's entries, then infinity */
  float threshold[2 * MAP_SIZE]; /* ascending, then NaN, which no value reaches */
  int steps;                     /* of the binary search: 1 for the usual maps */
  uint8_t start[1 << 16];
} Search;

/* The search for a map, to the nearest entry, or to the last entry at or below the value; it lives as long as the map.
 * NULL with an error if there is no memory. */
const Search *search_of(Map *map, bool stochastic);

/* Codes of n values (at most CHUNK), none of them NaN. */
void search_codes(const Search *search, uint8_t *restrict codes, const float *restrict values, int n);

/* Moves codes up by one where the value has gone far enough to the next entry, by 32 random bits each. `search` is one
 * for stochastic rounding. */
void search_round_up(const Search *search, uint8_t *restrict codes, const float *restrict values,
                     const uint32_t *restrict bits, int n);

/* out = value[code] · scale */
void search_decode(const float *restrict entry, float *restrict out, const uint8_t *restrict codes, float scale, int n);

#endif
