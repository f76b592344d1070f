#include "core/formats/small.h"

#include <math.h>
#include <string.h>

const SmallFormat small_formats[SMALL_FORMATS] = {
    {"e2m1", 4, 7, 7, 2, 1, 6, 1, 0.5f, {0, 1}},
    {"e2m3", 6, 31, 31, 2, 3, 7.5f, 1, 0.125f, {0, 3}},
    {"e3m2", 6, 31, 31, 4, 2, 28, 0.25f, 0.0625f, {-2, 2}},
    {"int8", 8, 127, 127, 6, 6, 127, 1, 1, {7, 7}},
    {"int4", 4, 7, 7, 2, 2, 7, 1, 1, {3, 3}},
    {"nf4", 4, 7, 8, 0, 0, 1, 0.07958029955625534f, 0.07958029955625534f, {0, 0}},
};

/* Those of bitsandbytes' create_normal_map. */
static const float nf4_values[] = {
    -1,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1,
};

const SmallFormat *small_format_called(const char *name) {
  for (int i = 0; i < SMALL_FORMATS; i++) {
    if (strcmp(small_formats[i].name, name) == 0) return &small_formats[i];
  }
  return NULL;
}

/* The number of a code without its sign. An integer's smallest value is 1, as its smallest normal number: its codes are
 * themselves. */
static float magnitude_of(const SmallFormat *format, int code) {
  if (format->name[0] == 'i') return (float)code;
  int fractions = 1 << format->mantissa_bits, exponent = code / fractions, fraction = code % fractions;
  float step = format->smallest;
  return exponent == 0 ? step * (float)fraction : ldexpf(step * (float)(fractions + fraction), exponent - 1);
}

static float value_at(const SmallFormat *format, int position) {
  int code = position - MAP_ZERO;
  if (format->mantissa_bits == 0) return nf4_values[code + format->below];
  return code < 0 ? -magnitude_of(format, -code) : magnitude_of(format, code);
}

void small_format_values(const SmallFormat *format, float value[MAP_SIZE]) {
  int first = MAP_ZERO - format->below, last = MAP_ZERO + format->above;
  for (int i = 0; i < MAP_SIZE; i++) value[i] = value_at(format, i < first ? first : i > last ? last : i);
}

Map *small_format_map(const SmallFormat *format) {
  float value[MAP_SIZE];
  small_format_values(format, value);
  return map_compile(value, MAP_ZERO - format->below, MAP_ZERO + format->above, format->largest);
}
