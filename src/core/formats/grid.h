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

/* The whole number below a number that is not large: by a sum that has no bits for less than 1. */
PORTABLE float grid_floor(float value) {
  const float large = 0x1.8p23f;
#ifdef __CUDA_ARCH__
  return __fadd_rd(value, large) - large;
#else
  float nearest = (value + large) - large;
  return nearest > value ? nearest - 1.0f : nearest;
#endif
}

/* As map_stochastic, where what has passed of a step is rounded once, too. */
PORTABLE float grid_stochastic(const FormatGrid *grid, float value, uint32_t random) {
  uint32_t step_bits = grid_exponent_bits(grid, value) - ((uint32_t)grid->bits << 23);
  float step = float_from_bits(step_bits), inverse = float_from_bits((254u << 23) - step_bits);
  float steps = value * inverse, below = grid_floor(steps), passed = steps - below;
  return ((float)(random >> 8) * 0x1p-24f < passed ? below + 1.0f : below) * step;
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
