#include "core/formats/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"

enum { CACHE_SIZE = 64 };

/* More than CACHE_SIZE maps only while calls interrupt one another. */
struct MapCache {
  Map **map;
  int count, capacity;
  uint64_t clock;
};

static float bucket_lowest(uint32_t bucket) {
  uint32_t ordered = bucket << 20;
  return float_from_bits((ordered & 0x80000000u) ? ordered ^ 0x80000000u : ~ordered);
}

static void fill_table(MapTable *table, const float values[MAP_SIZE], int first, int last, float limit) {
  memcpy(table->value, values, sizeof table->value);
  for (int i = 0; i + 1 < MAP_SIZE; i++) table->midpoint[i] = (values[i] + values[i + 1]) * 0.5f;
  for (int i = 0; i < first; i++) table->midpoint[i] = -INFINITY;
  for (int i = last; i < MAP_SIZE; i++) table->midpoint[i] = INFINITY;
  uint32_t below = 0;
  for (uint32_t bucket = 0; bucket < MAP_BUCKETS; bucket++) {
    float lowest = bucket_lowest(bucket);
    while (below < MAP_SIZE - 1 && table->midpoint[below] < lowest) below++;
    table->start[bucket] = (uint8_t)below;
  }
  lookup_build(&table->lookup, table->midpoint, table->start, limit);
}

/* Of exponents that leave room for scales in float32. */
static PowersOfTwo find_powers(const float value[MAP_SIZE]) {
  enum { LEAST = -36, MOST = 20, HALF = MAP_SIZE / 2 };
  int first = HALF, exponent = 0, last = 0;
  while (first < MAP_SIZE && value[first] == 0) first++;
  if (first == HALF || first == MAP_SIZE) return (PowersOfTwo){0};
  if (frexpf(value[first], &exponent) != 0.5f || frexpf(value[MAP_SIZE - 1], &last) != 0.5f) return (PowersOfTwo){0};
  if (exponent - 1 < LEAST || last - 1 > MOST) return (PowersOfTwo){0};
  for (int i = HALF; i < MAP_SIZE; i++) {
    float expected = i < first ? 0 : ldexpf(0.5f, exponent + i - first);
    if (value[i] != expected || value[MAP_SIZE - 1 - i] != -expected) return (PowersOfTwo){0};
  }
  /* The zeros that numbers next to them become. */
  if (signbit(value[first - 1]) || signbit(value[MAP_SIZE - first])) return (PowersOfTwo){0};
  return (PowersOfTwo){.exponent = exponent - 1, .count = MAP_SIZE - first};
}

static void free_map(Map *map) {
  for (int kind = 0; kind < DEVICE_KINDS_MOST; kind++) {
    for (int i = 0; i < MAP_FORMS; i++) {
      const MapForm *form = &map->form[kind][i];
      if (form->data) form->release(i, form->data);
    }
  }
  free(map);
}

void map_cache_release(MapCache *cache) {
  if (!cache) return;
  for (int i = 0; i < cache->count; i++) free_map(cache->map[i]);
  free(cache->map);
  free(cache);
}

/* NULL with an error. */
static MapCache *cache_of(Context *context) {
  if (!context->maps) context->maps = host_allocate_zeroed(1, sizeof *context->maps);
  return context->maps;
}

static bool check_values(const float values[MAP_SIZE]) {
  for (int i = 0; i < MAP_SIZE; i++) {
    if (!isfinite(values[i])) return error_set("map: entry %d is not finite", i + 1);
    if (i > 0 && values[i] < values[i - 1])
      return error_set("map: entries %d and %d are not in ascending order", i, i + 1);
  }
  return true;
}

static void give_up_oldest(MapCache *cache) {
  int oldest = 0;
  for (int i = 1; i < cache->count; i++) {
    if (cache->map[i]->last_use < cache->map[oldest]->last_use) oldest = i;
  }
  free_map(cache->map[oldest]);
  cache->map[oldest] = cache->map[--cache->count];
}

/* Makes room for one more. */
static bool make_room(MapCache *cache) {
  while (cache->count >= CACHE_SIZE && context_now->calls <= 1) give_up_oldest(cache);
  if (cache->count < cache->capacity) return true;
  int capacity = cache->capacity + CACHE_SIZE;
  Map **grown = host_reallocate(cache->map, (size_t)capacity * sizeof(Map *));
  if (!grown) return false;
  cache->map = grown;
  cache->capacity = capacity;
  return true;
}

Map *map_compile(const float values[MAP_SIZE], int first, int last, float limit) {
  MapCache *cache = cache_of(context_now);
  if (!cache) return NULL;
  for (int i = 0; i < cache->count; i++) {
    Map *map = cache->map[i];
    bool same = map->first == first && map->last == last;
    if (same && memcmp(map->table.value, values, sizeof map->table.value) == 0) {
      map->last_use = ++cache->clock;
      return map;
    }
  }
  if (!check_values(values) || !make_room(cache)) return NULL;
  Map *map = host_allocate_zeroed(1, sizeof *map);
  if (!map) return NULL;
  map->first = first;
  map->last = last;
  map->limit = limit;
  fill_table(&map->table, values, first, last, limit);
  if (first == 0 && last == MAP_SIZE - 1) map->powers = find_powers(values);
  map->last_use = ++cache->clock;
  cache->map[cache->count++] = map;
  return map;
}

void map_prepare_below(Map *map) {
  const MapTable *table = &map->table;
  if (map->has_below) return;
  lookup_build_below(&map->below, table->value, table->midpoint, table->start, map->limit);
  map->has_below = true;
}

static int compare_floats(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

bool map_create_float(float value[MAP_SIZE], bool has_sign, int exponent_bits, int precision_bits, int total_bits) {
  if (total_bits < 2 || total_bits > 8) return error_set("total_bits must be 2 to 8, got %d", total_bits);
  if (exponent_bits < 1 || precision_bits < 0) {
    return error_set("exponent_bits must be at least 1 and precision_bits at least 0, got %d and %d", exponent_bits,
                     precision_bits);
  }
  if (exponent_bits + precision_bits + has_sign != total_bits) {
    return error_set("exponent_bits (%d), precision_bits (%d) and %d for the sign must add up to total_bits (%d)",
                     exponent_bits, precision_bits, has_sign, total_bits);
  }
  double bias = ldexp(1, exponent_bits - 1);
  int fractions = 1 << precision_bits, count = 0;
  double entries[MAP_SIZE] = {0};
  for (int exponent = 0; exponent < 1 << exponent_bits; exponent++) {
    for (int mantissa = 0; mantissa < fractions; mantissa++) {
      double fraction = (double)mantissa / fractions;
      double entry = exponent == 0 ? fraction * exp2(-bias) : (1 + fraction) * exp2(bias + 1 - exponent);
      entries[count++] = entry;
      if (has_sign) entries[count++] = -entry;
    }
  }
  double largest = 0;
  for (int i = 0; i < MAP_SIZE; i++) largest = fmax(largest, entries[i]);
  for (int i = 0; i < MAP_SIZE; i++) value[i] = (float)(entries[i] / largest);
  qsort(value, MAP_SIZE, sizeof value[0], compare_floats);
  return true;
}

bool map_create_ieee(float value[MAP_SIZE], const FloatFormat *format) {
  enum { MOST_BIAS = 256 };
  int bits = format->exponent_bits + format->mantissa_bits + format->has_sign;
  if (format->exponent_bits < 1 || format->mantissa_bits < 0 || bits < 2 || bits > 8) {
    return error_set(
        "exponent_bits must be at least 1, mantissa_bits at least 0, and both with the sign 2 to 8, got %d and %d",
        format->exponent_bits, format->mantissa_bits);
  }
  if (abs(format->bias) > MOST_BIAS) {
    return error_set("bias must be from %d to %d, got %d", -MOST_BIAS, MOST_BIAS, format->bias);
  }
  int fractions = 1 << format->mantissa_bits, exponents = (1 << format->exponent_bits) - format->infinity, count = 0;
  double entries[MAP_SIZE] = {0}, largest = 0;
  for (int code = 0; code < exponents * fractions; code++) {
    int exponent = code / fractions;
    double fraction = (double)(code % fractions) / fractions;
    double entry = exponent == 0 ? ldexp(fraction, 1 - format->bias) : ldexp(1 + fraction, exponent - format->bias);
    entries[count++] = entry;
    if (format->has_sign) entries[count++] = -entry;
    largest = fmax(largest, entry);
  }
  if (largest == 0) return error_set("there is no number but 0 in this format");
  for (int i = 0; i < MAP_SIZE; i++) value[i] = (float)(entries[i] / largest);
  qsort(value, MAP_SIZE, sizeof value[0], compare_floats);
  return true;
}

/* Element i of `count` evenly spaced float32 values from `start` to `end`, stepping from both ends with fused
 * operations as PyTorch does. */
static float linear_space(float start, float end, int count, int i) {
  if (count == 1) return start;
  float step = (end - start) / (float)(count - 1);
  return i < count / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(count - 1 - i), end);
}

bool map_create_dynamic(float value[MAP_SIZE], bool has_sign, int max_exponent_bits, int total_bits) {
  if (total_bits < 2 || total_bits > 8) return error_set("total_bits must be 2 to 8, got %d", total_bits);
  if (max_exponent_bits < 1 || max_exponent_bits >= total_bits) {
    return error_set("max_exponent_bits must be 1 to %d, got %d", total_bits - 1, max_exponent_bits);
  }
  int spare_bits = total_bits - 1 - max_exponent_bits;
  int count = 0;
  memset(value, 0, MAP_SIZE * sizeof value[0]);
  /* One region for every exponent, and the entries that have no indicator bit in a last region beside the largest
   * one. */
  for (int region = 0; region <= max_exponent_bits; region++) {
    int exponent = region < max_exponent_bits ? region : max_exponent_bits - 1;
    int items = region < max_exponent_bits ? 1 << (region + spare_bits + !has_sign) : (1 << spare_bits) - 1;
    float scale = (float)pow(10, exponent - (max_exponent_bits - 1));
    for (int i = 0; i < items; i++) {
      float low = linear_space(0.1f, 1, items + 1, i), high = linear_space(0.1f, 1, items + 1, i + 1);
      float entry = scale * ((low + high) / 2);
      value[count++] = entry;
      if (has_sign) value[count++] = -entry;
    }
  }
  value[count++] = 0;
  value[count++] = 1;
  qsort(value, MAP_SIZE, sizeof value[0], compare_floats);
  return true;
}

bool map_create_linear(float value[MAP_SIZE], bool has_sign, int total_bits) {
  if (total_bits < 2 || total_bits > 8) return error_set("total_bits must be 2 to 8, got %d", total_bits);
  int count = (1 << total_bits) - has_sign;
  int gap = MAP_SIZE - count, half = count / 2;
  for (int i = 0; i < MAP_SIZE; i++) {
    if (i >= half && i < half + gap) {
      value[i] = 0;
    } else {
      value[i] = linear_space(has_sign ? -1 : 0, 1, count, i < half ? i : i - gap);
    }
  }
  /* The value in the middle may be a rounding error below 0. */
  qsort(value, MAP_SIZE, sizeof value[0], compare_floats);
  return true;
}
