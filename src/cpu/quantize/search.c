#include "cpu/quantize/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* Ascending with the value, except that -0 lies below 0. */
INLINED uint32_t ordered_bits(float value) {
  uint32_t bits = float_to_bits(value);
  return bits ^ ((uint32_t)((int32_t)bits >> 31) | 0x80000000u);
}

static float from_ordered_bits(uint32_t ordered) {
  return float_from_bits(ordered ^ ((uint32_t)((int32_t)~ordered >> 31) | 0x80000000u));
}

/* map_nearest takes a tie to the even neighbour, so a value passes an odd midpoint from the midpoint on, an even one
 * just above it. Where midpoints coincide, those after the first are passed no earlier than it. */
static void nearest_thresholds(Search *search, const Map *map) {
  float highest = -INFINITY;
  for (int i = 0; i + 1 < MAP_SIZE; i++) {
    float midpoint = map->table.midpoint[i];
    float threshold = i % 2 ? midpoint : nextafterf(midpoint, INFINITY);
    if (threshold > highest) highest = threshold;
    search->threshold[i] = highest + 0.0f; /* never -0 */
  }
}

static void entry_thresholds(Search *search, const Map *map) {
  for (int i = 0; i + 1 < MAP_SIZE; i++) {
    search->threshold[i] = i < map->last ? map->table.value[i + 1] + 0.0f : INFINITY; /* never -0 */
  }
}

static void build(Search *search, const Map *map, bool stochastic) {
  memcpy(search->value, map->table.value, sizeof map->table.value);
  search->value[MAP_SIZE] = INFINITY;
  if (stochastic) {
    entry_thresholds(search, map);
  } else {
    nearest_thresholds(search, map);
  }
  for (int i = MAP_SIZE - 1; i < 2 * MAP_SIZE; i++) search->threshold[i] = NAN;

  /* Ranges up to that of threshold i start with at most i thresholds; `inside` counts those above the lowest value of a
   * range. */
  uint32_t range = 0;
  int inside = 0, most_inside = 0;
  for (uint32_t i = 0; i + 1 < MAP_SIZE; i++) {
    uint32_t of_threshold = ordered_bits(search->threshold[i]) >> 16;
    bool at_lowest = search->threshold[i] == from_ordered_bits(of_threshold << 16);
    bool same_range = i > 0 && ordered_bits(search->threshold[i - 1]) >> 16 == of_threshold;
    uint32_t end = of_threshold + !at_lowest;
    for (; range < end; range++) search->entry[range] = i << 16;
    inside = (same_range ? inside : 0) + !at_lowest;
    if (inside > most_inside) most_inside = inside;
  }
  for (; range < 1 << 16; range++) search->entry[range] = (uint32_t)(MAP_SIZE - 1) << 16;
  search->steps = 0;
  if (most_inside > 1) {
    while ((1 << search->steps) - 1 < most_inside) search->steps++;
    return;
  }
  for (int i = 0; i + 1 < MAP_SIZE; i++) {
    uint32_t threshold = ordered_bits(search->threshold[i]), low = threshold & 0xFFFF;
    if (low > 0) search->entry[threshold >> 16] += 0x10000 - low;
  }
}

/* `code`: that of the lowest value of the range. False where the range has several thresholds between different entries. */
static bool find_pair(const Search *search, uint32_t range, int code, SearchPair *pair) {
  const float below = search->value[code];
  *pair = (SearchPair){below, below};
  for (int i = code; i + 1 < MAP_SIZE && ordered_bits(search->threshold[i]) >> 16 == range; i++) {
    const float above = search->value[i + 1], midpoint = search_midpoint(below, above), at = search->threshold[i];
    if (float_to_bits(above) == float_to_bits(search->value[i])) continue;
    if (pair->first != pair->second) return false;
    if (at != midpoint && at != nextafterf(midpoint, INFINITY)) return false;
    *pair = at == midpoint ? (SearchPair){above, below} : (SearchPair){below, above};
  }
  return true;
}

static bool find_pairs(Search *search) {
  int code = 0;
  for (uint32_t range = 0; range < 1 << 16; range++) {
    while (code + 1 < MAP_SIZE && ordered_bits(search->threshold[code]) <= range << 16) code++;
    if (!find_pair(search, range, code, &search->pair[range])) return false;
  }
  return true;
}

static void release_search(int index, void *data) {
  (void)index;
  free(data);
}

const Search *search_of(Map *map, bool stochastic) {
  MapForm *form = &map->form[DEVICE_CPU][stochastic];
  if (form->data) return form->data;
  Search *search = host_allocate(sizeof *search);
  if (!search) return NULL;
  build(search, map, stochastic);
  search->has_pairs = !stochastic && find_pairs(search);
  *form = (MapForm){search, release_search};
  return search;
}

/* Table look-ups are loops of their own and not vectorized: scalar loads from the first-level cache are several
 * times as fast as gather instructions. */

VECTORIZE static void split_values(uint16_t *restrict ranges, uint16_t *restrict places, const float *restrict values,
                                   int n) {
  for (int i = 0; i < n; i++) {
    uint32_t bits = ordered_bits(values[i] + 0.0f); /* -0 becomes 0 */
    ranges[i] = (uint16_t)(bits >> 16);
    places[i] = (uint16_t)bits;
  }
}

static void look_up_entries(uint32_t *restrict out, const uint32_t *restrict entry, const uint16_t *restrict ranges,
                            int n) {
  for (int i = 0; i < n; i++) out[i] = entry[ranges[i]];
}

VECTORIZE static void add_places(uint8_t *restrict codes, const uint32_t *restrict entries,
                                 const uint16_t *restrict places, int n) {
  for (int i = 0; i < n; i++) codes[i] = (uint8_t)((entries[i] + places[i]) >> 16);
}

static void look_up_floats(float *restrict out, const float *restrict table, const uint8_t *restrict codes, int n) {
  for (int i = 0; i < n; i++) out[i] = table[codes[i]];
}

VECTORIZE static void advance(uint8_t *restrict codes, const float *restrict values, const float *restrict thresholds,
                              int step, int n) {
  for (int i = 0; i < n; i++) codes[i] = (uint8_t)(codes[i] + (values[i] >= thresholds[i] ? step : 0));
}

void search_codes(const Search *search, uint8_t *restrict codes, const float *restrict values, int n) {
  _Alignas(64) uint16_t ranges[CHUNK], places[CHUNK];
  _Alignas(64) uint32_t entries[CHUNK];
  float thresholds[CHUNK];
  split_values(ranges, places, values, n);
  look_up_entries(entries, search->entry, ranges, n);
  add_places(codes, entries, places, n);
  for (int step = (1 << search->steps) / 2; step > 0; step /= 2) {
    look_up_floats(thresholds, search->threshold + step - 1, codes, n);
    advance(codes, values, thresholds, step, n);
  }
}

VECTORIZE static void find_ranges(uint16_t *restrict ranges, const float *restrict values, int n) {
  for (int i = 0; i < n; i++) ranges[i] = (uint16_t)(ordered_bits(values[i] + 0.0f) >> 16);
}

static void look_up_pairs(SearchPair *pairs, const SearchPair *pair, const uint16_t *ranges, int n) {
#pragma GCC unroll 8
  for (int i = 0; i < n; i++) pairs[i] = pair[ranges[i]];
}

VECTORIZE static void equal_pairs(SearchPair *restrict pairs, const float *restrict values, int n) {
  for (int i = 0; i < n; i++) pairs[i] = (SearchPair){values[i], values[i]};
}

void search_pairs(const Search *search, SearchPair *pairs, const float *values, int n) {
  if (search->has_pairs) {
    _Alignas(64) uint16_t ranges[CHUNK];
    find_ranges(ranges, values, n);
    look_up_pairs(pairs, search->pair, ranges, n);
  } else {
    uint8_t codes[CHUNK];
    float found[CHUNK];
    search_codes(search, codes, values, n);
    look_up_floats(found, search->value, codes, n);
    equal_pairs(pairs, found, n);
  }
}

VECTORIZE static void take_nearer(float *restrict values, const SearchPair *restrict pairs, int n) {
  for (int i = 0; i < n; i++) values[i] = search_nearer(pairs[i], values[i]);
}

void search_values(const Search *search, float *values, int n) {
  _Alignas(64) SearchPair pairs[CHUNK];
  search_pairs(search, pairs, values, n);
  take_nearer(values, pairs, n);
}

VECTORIZE static void round_up(uint8_t *restrict codes, const float *restrict values, const float *restrict below,
                               const float *restrict above, const uint32_t *restrict bits, int n) {
  for (int i = 0; i < n; i++) codes[i] = (uint8_t)(codes[i] + map_passes(below[i], above[i], values[i], bits[i]));
}

void search_round_up(const Search *search, uint8_t *restrict codes, const float *restrict values,
                     const uint32_t *restrict bits, int n) {
  float below[CHUNK], above[CHUNK];
  look_up_floats(below, search->value, codes, n);
  look_up_floats(above, search->value + 1, codes, n);
  round_up(codes, values, below, above, bits, n);
}

void search_decode(const float *restrict entry, float *restrict out, const uint8_t *restrict codes, float scale,
                   int n) {
  look_up_floats(out, entry, codes, n);
  if (scale != 1) scale_floats(out, out, scale, n);
}
