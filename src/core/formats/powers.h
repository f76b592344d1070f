/* Stochastic rounding to the powers of two of a map by arithmetic: the codes and values of map_stochastic. */
#ifndef FP8_CORE_POWERS_H
#define FP8_CORE_POWERS_H

#include <math.h>

#include "core/portable.h"

/* A map that has 2^exponent and the powers of two after it at its end, the same ones below 0 at its beginning, and zeros between
 * them. */
typedef struct PowersOfTwo {
  int32_t exponent;
  int32_t count; /* above 0; 0 where a map is none of these */
} PowersOfTwo;

PORTABLE float powers_smallest(const PowersOfTwo *powers) {
  return float_from_bits((uint32_t)(127 + powers->exponent) << 23);
}
PORTABLE float powers_largest(const PowersOfTwo *powers) {
  return float_from_bits((uint32_t)(126 + powers->exponent + powers->count) << 23);
}

/* As map_passes decides between the neighbours of `value`, the lower of which is the larger magnitude below 0. 0 is +0. */
PORTABLE float powers_stochastic(const PowersOfTwo *powers, float value, uint32_t random) {
  const float smallest = powers_smallest(powers), largest = powers_largest(powers);
  float magnitude = fabsf(value);
  magnitude = magnitude > largest ? largest : magnitude;
  const float power = float_from_bits(float_to_bits(magnitude) & 0x7F800000u);
  const float low = magnitude < smallest ? 0.0f : power, step = magnitude < smallest ? smallest : power;
  const float passed = magnitude - low, share = (float)(int32_t)(random >> 8) * 0x1p-24f * step;
  const float above_lower = value < 0 ? step - passed : passed;
  const float upper = value < 0 ? low : low + step, lower = value < 0 ? low + step : low;
  const float result = share < above_lower ? upper : lower;
  return (value < 0 ? -result : result) + 0.0f;
}

/* The code of what a number, `value`, was rounded to. */
PORTABLE uint8_t powers_code(const PowersOfTwo *powers, float rounded, float value) {
  const int32_t field = (int32_t)(float_to_bits(rounded) >> 23 & 0xFF);
  const int32_t above = field - (126 + powers->exponent), steps = above < 0 ? 0 : above;
  return (uint8_t)(value < 0 ? powers->count - steps : 255 - powers->count + steps);
}

#endif
