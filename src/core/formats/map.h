/* Number formats as data: a map is 256 sorted float32 values, and a code is a position in it. */
#ifndef FP8_CORE_MAP_H
#define FP8_CORE_MAP_H

#include "core/device.h"
#include "core/error.h"
#include "core/formats/lookup.h"
#include "core/formats/powers.h"
#include "core/portable.h"

enum { MAP_SIZE = 256, MAP_BUCKETS = 4096 };

/* What searches read; copied to GPUs as it is. */
typedef struct MapTable {
  float value[MAP_SIZE];
  /* midpoint[i] = (value[i] + value[i + 1]) * 0.5, the last one infinite; infinite below the first code in use, too. */
  float midpoint[MAP_SIZE];
  /* Buckets are ranges of float32 with equal upper 12 bits, in ascending order; start[b] counts the midpoints below
   * every value of bucket b. */
  uint8_t start[MAP_BUCKETS];
  MapLookup lookup;
} MapTable;

/* What a backend has made of a map, to be kept as long as the map is. */
typedef struct MapForm {
  void *data; /* NULL: nothing yet */
  void (*release)(int index, void *data);
} MapForm;

enum { MAP_FORMS = DEVICE_MAX };

typedef struct Map {
  MapTable table;
  MapLookup below; /* of entries below, for GPUs, where map_prepare_below has built it */
  bool has_below;
  PowersOfTwo powers;
  float limit;     /* of numbers that may be looked up */
  int first, last; /* the codes that numbers get: all of them, but of a small format those of its values */
  uint64_t last_use;
  MapForm form[DEVICE_KINDS_MOST][MAP_FORMS]; /* by kind of device, and what its backend counts by */
} Map;

/* The compiled form of 256 ascending finite float32 values: the same object as long as the map stays in the context's
 * cache of the most recently used ones, at least until the next call. NULL with an error if the values are not ascending
 * or not finite. Those before position `first` are equal to it, those after `last` to that, and no number gets their codes;
 * numbers up to `limit` may be looked up. */
Map *map_compile(const float values[MAP_SIZE], int first, int last, float limit);

/* Builds the look-up of entries below, once. */
FP8_API void map_prepare_below(Map *map);

typedef struct MapCache MapCache;

/* Frees a context's cache, which may be NULL. */
void map_cache_release(MapCache *cache);

/* `value`, the 256 entries of the format with a sign bit or none, exponent_bits and precision_bits (their sum with
 * the sign being total_bits, 2 to 8), normalized so that the largest is 1. Source: bitsandbytes,
 * functional.create_fp8_map. */
bool map_create_float(float value[MAP_SIZE], bool has_sign, int exponent_bits, int precision_bits, int total_bits);

/* Numbers with exponent and mantissa bits as IEEE 754 has them, subnormal ones included: with the exponent field E and the
 * fraction f, f · 2^(1 - bias) for E = 0 and (1 + f) · 2^(E - bias) above; `infinity`: the largest E is none of a number.
 * Divided by the largest, and zeros fill up. exponent_bits is at least 1; with mantissa_bits and the sign 2 to 8. */
typedef struct FloatFormat {
  int exponent_bits, mantissa_bits, bias;
  bool infinity, has_sign;
} FloatFormat;
bool map_create_ieee(float value[MAP_SIZE], const FloatFormat *format);

/* The dynamic tree data type of Dettmers, "8-bit approximations for parallelism in deep learning" (2016), as
 * bitsandbytes' create_dynamic_map computes it: 1 to 7 exponent bits (bitsandbytes: max_exponent_bits), total_bits 2
 * to 8. */
bool map_create_dynamic(float value[MAP_SIZE], bool has_sign, int max_exponent_bits, int total_bits);

/* 2^total_bits evenly spaced values (one fewer with a sign, so that 0 is one of them) from -1, or 0 without a sign,
 * to 1; bitsandbytes' create_linear_map. */
bool map_create_linear(float value[MAP_SIZE], bool has_sign, int total_bits);

/* The bucket of a value that is not NaN. */
PORTABLE uint32_t map_bucket(float value) {
  uint32_t bits = float_to_bits(value);
  uint32_t ordered = bits ^ ((bits & 0x80000000u) ? 0xFFFFFFFFu : 0x80000000u);
  return ordered >> 20;
}

/* The nearest entry's code: the number of midpoints below `value`, and on a midpoint the even one of its two
 * neighbours. `value` must not be NaN. */
PORTABLE uint8_t map_nearest(const float *midpoint, const uint8_t *start, float value) {
  uint32_t code = start[map_bucket(value)];
  while (value > midpoint[code]) code++;
  return (uint8_t)(code + ((value == midpoint[code]) & code & (code < MAP_SIZE - 1)));
}

/* Whether stochastic rounding takes the upper one of two neighbours, by the first 24 of 32 uniform bits: those times the
 * step are less than what the value has passed of it. False below `low`, and for a `high` that is infinite. */
PORTABLE bool map_passes(float low, float high, float value, uint32_t random) {
  return (float)(random >> 8) * 0x1p-24f * (high - low) < value - low;
}

/* The code of the last entry that is not above `value`; 0 where all are. */
PORTABLE uint8_t map_below(const float *entry, const float *midpoint, const uint8_t *start, float value) {
  uint32_t code = map_nearest(midpoint, start, value);
  if (value < entry[code]) return (uint8_t)(code == 0 ? 0 : code - 1);
  while (midpoint[code] != INFINITY && value >= entry[code + 1]) code++;
  return (uint8_t)code;
}

/* Stochastic rounding between the neighbours a <= value < b: b with probability (value - a) / (b - a), to 2^-24, from
 * 32 uniform bits; values outside the map give its ends. */
PORTABLE uint8_t map_stochastic(const float *entry, const float *midpoint, const uint8_t *start, float value,
                                uint32_t random) {
  const uint32_t code = map_below(entry, midpoint, start, value);
  if (value < entry[code] || midpoint[code] == INFINITY) return (uint8_t)code;
  return (uint8_t)(code + map_passes(entry[code], entry[code + 1], value, random));
}

#endif
