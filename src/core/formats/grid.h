/* Small floating-point formats and integers by arithmetic: the codes and values of their maps (small.h), for numbers up to
 * the format's largest. */
#ifndef FP8_CORE_GRID_H
#define FP8_CORE_GRID_H

#include <math.h>

#include "core/portable.h"

/* The format's numbers are the multiples of 2^(e - bits), e being a number's exponent, but at least `exponent`; integers are
 * below 2^exponent. */
typedef struct FormatGrid {
  int32_t exponent;
  int32_t bits; /* 0 where there is no such rule */
} FormatGrid;

/* 2^e, as bits. */
PORTABLE uint32_t grid_exponent_bits(const FormatGrid *grid, float value) {
  uint32_t exponent = float_to_bits(value) & 0x7F800000u, least = (uint32_t)(grid->exponent + 127) << 23;
  return exponent > least ? exponent : least;
}

/* To nearest, ties to even: the sum with 1.5 · 2^(e + 23 - bits) has no bits for less than a step. */
PORTABLE float grid_nearest(const FormatGrid *grid, float value) {
  float large = float_from_bits(grid_exponent_bits(grid, value) + ((uint32_t)(23 - grid->bits) << 23 | 0x00400000u));
  return (value + large) - large;
}

/* The bits of a number that are less than a step of its own exponent. */
PORTABLE int grid_dropped(const FormatGrid *grid) { return 23 - grid->bits; }

/* What is added to a number below 2^exponent: its bits are then of steps of the format, as those of larger ones are. */
PORTABLE float grid_offset(const FormatGrid *grid, float value) {
  float least = float_from_bits((uint32_t)(grid->exponent + 127) << 23);
  uint32_t sign = float_to_bits(value) & 0x80000000u;
  return fabsf(value) < least ? float_from_bits(float_to_bits(least) | sign) : 0.0f;
}

/* Away from 0 with the probability that the number has passed of a step, else towards it: 32 uniform bits are added to
 * what is dropped. All of that counts, 2^-16 of a step for integers of 8 bits and less for the others; below
 * 2^exponent, float32 may have still less, which is rounded to nearest first. 0 is +0. */
PORTABLE float grid_stochastic(const FormatGrid *grid, float value, uint32_t random) {
  int dropped = grid_dropped(grid);
  float offset = grid_offset(grid, value);
  uint32_t bits = float_to_bits(value + offset) + (random >> (32 - dropped));
  return float_from_bits(bits >> dropped << dropped) - offset;
}

/* The position in the map; 128 is that of 0. In float32's subnormal numbers, the format's codes are the upper bits. */
PORTABLE uint8_t grid_code(const FormatGrid *grid, float value) {
  float factor = float_from_bits((uint32_t)(127 - grid->exponent) << 23);
  uint32_t magnitude = (float_to_bits(value * factor * 0x1p-126f) & 0x7FFFFFFFu) >> (23 - grid->bits);
  return (uint8_t)(value < 0 ? 128 - magnitude : 128 + magnitude);
}

PORTABLE float grid_value(const FormatGrid *grid, uint8_t code) {
  uint32_t magnitude = code < 128 ? 128u - code : code - 128u;
  float factor = float_from_bits((uint32_t)(127 + grid->exponent) << 23);
  float value = float_from_bits(magnitude << (23 - grid->bits)) * 0x1p126f * factor;
  return code < 128 ? -value : value;
}

#endif
