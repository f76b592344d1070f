#include "core/formats/lookup.h"

#include "core/formats/map.h"

enum { MOST_BITS = 7 };

/* What a look-up imitates. */
typedef struct Target {
  const float *value; /* of a look-up of entries below, else NULL */
  const float *midpoint;
  const uint8_t *start;
  float inverse; /* 1 / factor */
} Target;

static uint32_t magnitude_of(int32_t ordered) { return ordered >= 0 ? (uint32_t)ordered : ~(uint32_t)ordered; }

static uint8_t find(const Target *target, float scaled) {
  return target->value ? map_below(target->value, target->midpoint, target->start, scaled)
                       : map_nearest(target->midpoint, target->start, scaled);
}

/* The code of every number whose product with the factor has this integer. No threshold but 0 is among subnormal
 * products. */
static uint8_t code_of(const Target *target, int32_t ordered) {
  uint32_t magnitude = magnitude_of(ordered);
  float scaled = magnitude < 0x00800000 ? 0x1p-149f : float_from_bits(magnitude) * target->inverse;
  return find(target, ordered >= 0 ? scaled : -scaled);
}

/* The first integer after `low` that has another code; `high` is one that has. */
static int32_t threshold_between(const Target *target, int32_t low, int32_t high) {
  uint8_t code = code_of(target, low);
  while (high - low > 1) {
    int32_t middle = low + (high - low) / 2;
    if (code_of(target, middle) == code) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return high;
}

/* The entries of so many buckets on either side of 0. */
static bool fill(MapLookup *lookup, const Target *target, int32_t below, int32_t above) {
  for (int32_t bucket = -below; bucket < above; bucket++) {
    int32_t first = bucket * (1 << lookup->shift), last = first + ((1 << lookup->shift) - 1);
    uint32_t code = code_of(target, first), last_code = code_of(target, last);
    if (last_code > code + 1) return false;
    uint32_t entry = (code << 24) - (uint32_t)first;
    if (last_code > code) entry += (1u << 24) - (uint32_t)(threshold_between(target, first, last) - first);
    lookup->entry[bucket + below] = entry;
  }
  return true;
}

/* The smallest magnitude that is not 0 of so many thresholds, at most 1. */
static float smallest_threshold(const float *threshold, int count) {
  float smallest = 1;
  for (int i = 0; i < count; i++) {
    float magnitude = fabsf(threshold[i]);
    if (magnitude > 0 && magnitude < smallest) smallest = magnitude;
  }
  return smallest;
}

static void build(MapLookup *lookup, Target target, float smallest, float limit) {
  lookup->half = lookup->positive = 0;
  /* 0 has to have the code of the smallest positive number. */
  if (find(&target, 0) != find(&target, 0x1p-149f)) return;
  int exponent = 0;
  frexpf(smallest, &exponent);
  if (exponent < -100) return;
  /* The smallest threshold, at least 2^(exponent - 1), becomes at least 2^-125, twice the smallest normal number. */
  lookup->factor = ldexpf(1, -124 - exponent);
  target.inverse = ldexpf(1, 124 + exponent);
  for (int bits = 1; bits <= MOST_BITS; bits++) {
    lookup->shift = 23 - bits;
    int32_t above = (int32_t)(float_to_bits(limit * lookup->factor) >> lookup->shift) + 1;
    if (above <= LOOKUP_HALF && fill(lookup, &target, above, above)) {
      lookup->half = above;
      return;
    }
    /* Fewer bits don't do if these don't, and more give too many buckets for both sides. */
    if (above > LOOKUP_HALF && above <= 2 * LOOKUP_HALF && fill(lookup, &target, 0, above)) {
      lookup->positive = above;
      return;
    }
  }
}

void lookup_build(MapLookup *lookup, const float *midpoint, const uint8_t *start, float limit) {
  const Target target = {.midpoint = midpoint, .start = start};
  build(lookup, target, smallest_threshold(midpoint, MAP_SIZE - 1), limit);
}

void lookup_build_below(MapLookup *lookup, const float *value, const float *midpoint, const uint8_t *start,
                        float limit) {
  enum { LEAST = -70 };
  const Target target = {.value = value, .midpoint = midpoint, .start = start};
  const float smallest = smallest_threshold(value, MAP_SIZE);
  lookup->half = lookup->positive = 0;
  if (smallest < ldexpf(1, LEAST)) return; /* 2^-24 of a step, a 128th of that or more, is exact in float32 */
  build(lookup, target, smallest, limit);
}
