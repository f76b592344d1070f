/* Conversions between float32 and the narrower float types, to nearest even, and from float32 to integers. Without
 * branches where a loop over them should vectorize.
 *
 * A double becomes narrow by way of float32 as well, but of float_to_narrow: rounded to nearest twice it could end on the
 * wrong side of a tie that the first rounding made. */
#ifndef FP8_CORE_FLOAT_FORMATS_H
#define FP8_CORE_FLOAT_FORMATS_H

#include <math.h>

#include "core/dtype.h"
#include "core/formats/grid.h"
#include "core/portable.h"

#define E4M3_LARGEST 448.0f
#define E5M2_LARGEST 57344.0f

/* A double as float32 "to odd": itself if that holds it, else the one of its two neighbours whose last bit is 1. It lies
 * on no tie of a format with at least two bits less, and on the same side of each as the double, so that rounding it there
 * to nearest is rounding the double (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). What is
 * beyond float32 becomes its largest number, which rounds to the narrower formats as infinity would. */
PORTABLE float float_to_odd(double number) {
  float nearest = (float)number;
  uint32_t bits = float_to_bits(nearest);
  if (number != number || (double)nearest == number || (bits & 1)) return nearest;
  return float_from_bits(fabs((double)nearest) < fabs(number) ? bits + 1 : bits - 1);
}

/* What to round to a float dtype in place of a double, with the same result. */
PORTABLE float float_to_narrow(DType dtype, double number) {
  return dtype == DTYPE_F32 ? (float)number : float_to_odd(number);
}

PORTABLE float bf16_to_float(uint16_t bits) { return float_from_bits((uint32_t)bits << 16); }

PORTABLE uint16_t bf16_from_float(float value) {
  uint32_t bits = float_to_bits(value);
  bits += value != value ? 0x400000 & ~bits : 0x7FFF + ((bits >> 16) & 1); /* a NaN becomes quiet */
  return (uint16_t)(bits >> 16);
}

PORTABLE float f16_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t magnitude = (uint32_t)(half & 0x7FFF) << 13;
  /* Scaling by 2^112 moves the exponent's bias from 15 to 127 and makes subnormals normal. */
  uint32_t finite = float_to_bits(float_from_bits(magnitude) * 0x1p112f);
  uint32_t special = magnitude | 0x7F800000;
  return float_from_bits(sign | (magnitude >= 0x0F800000 ? special : finite));
}

PORTABLE uint16_t f16_from_float(float value) {
  uint32_t bits = float_to_bits(value);
  uint32_t sign = (bits >> 16) & 0x8000;
  uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t normal = (magnitude - 0x38000000 + 0x0FFF + ((magnitude >> 13) & 1)) >> 13;
  /* Adding 0.5 aligns a value below 2^-14 so that its last bit is 2^-24, rounded by the addition itself. */
  uint32_t subnormal = float_to_bits(float_from_bits(magnitude) + 0.5f) - 0x3F000000;
  uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  result = magnitude >= 0x477FF000 ? 0x7C00 : result; /* 65520 and above round to infinity */
  result = magnitude > 0x7F800000 ? (0x7E00 | ((magnitude >> 13) & 0x3FF)) : result;
  return (uint16_t)(sign | result);
}

PORTABLE float e4m3_to_float(uint8_t code) {
  uint32_t sign = (uint32_t)(code & 0x80) << 24;
  uint32_t magnitude = (uint32_t)(code & 0x7F) << 20;
  uint32_t finite = float_to_bits(float_from_bits(magnitude) * 0x1p120f);
  return float_from_bits(sign | ((code & 0x7F) == 0x7F ? 0x7FC00000 : finite));
}

PORTABLE float e5m2_to_float(uint8_t code) { return f16_to_float((uint16_t)((uint16_t)code << 8)); }

/* A float8 code of `value` to nearest even. Overflow and infinities give the largest finite value if `saturate`, else
 * infinity, or NaN where the format has no infinity. NaN gives NaN with the sign kept. */
PORTABLE uint8_t e4m3_from_float(float value, bool saturate) {
  uint32_t bits = float_to_bits(value);
  uint32_t sign = (bits >> 24) & 0x80;
  uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t normal = (magnitude - 0x3C000000 + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20;
  /* Below 2^-6 the last bit is 2^-9: adding 2^14 makes that the last bit of the sum. */
  uint32_t subnormal = float_to_bits(float_from_bits(magnitude) + 0x1p14f) - 0x46800000;
  uint32_t result = magnitude < 0x3C800000 ? subnormal : normal;
  uint32_t overflow = saturate ? 0x7E : 0x7F;
  result = magnitude > 0x43E80000 ? overflow : result; /* above 464, halfway to the next step */
  result = magnitude > 0x7F800000 ? 0x7F : result;
  return (uint8_t)(sign | result);
}

PORTABLE uint8_t e5m2_from_float(float value, bool saturate) {
  uint32_t bits = float_to_bits(value);
  uint32_t sign = (bits >> 24) & 0x80;
  uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t normal = (magnitude - 0x38000000 + 0xFFFFF + ((magnitude >> 21) & 1)) >> 21;
  /* Below 2^-14 the last bit is 2^-16: adding 2^7 makes that the last bit of the sum. */
  uint32_t subnormal = float_to_bits(float_from_bits(magnitude) + 0x1p7f) - 0x43000000;
  uint32_t result = magnitude < 0x38800000 ? subnormal : normal;
  uint32_t overflow = saturate ? 0x7B : 0x7C;
  result = magnitude >= 0x47700000 ? overflow : result; /* 61440, halfway to the next step, and above */
  result = magnitude > 0x7F800000 ? 0x7F : result;
  return (uint8_t)(sign | result);
}

PORTABLE FormatGrid e4m3_grid(void) {
  FormatGrid grid = {-6, 3};
  return grid;
}
PORTABLE FormatGrid e5m2_grid(void) {
  FormatGrid grid = {-14, 2};
  return grid;
}

/* grid_stochastic as a code, which keeps the sign of 0. `value` is finite; its result saturates. */
PORTABLE uint8_t float8_stochastic(float value, uint32_t random, FormatGrid grid, uint8_t largest) {
  int dropped = grid_dropped(&grid);
  uint32_t sign = (float_to_bits(value) >> 24) & 0x80;
  float magnitude = fabsf(value), offset = grid_offset(&grid, magnitude);
  uint32_t first = (uint32_t)(grid.exponent + (offset > 0 ? 127 : 126)) << 23; /* the bits of code 0 */
  uint32_t code = (float_to_bits(magnitude + offset) - first + (random >> (32 - dropped))) >> dropped;
  return (uint8_t)(sign | (code > largest ? largest : code));
}

PORTABLE uint8_t e4m3_stochastic(float value, uint32_t random) {
  return float8_stochastic(value, random, e4m3_grid(), 0x7E);
}

PORTABLE uint8_t e5m2_stochastic(float value, uint32_t random) {
  return float8_stochastic(value, random, e5m2_grid(), 0x7B);
}

/* The same of the 16-bit formats, by 16 bits. float32 has no more of a step, but of f16's below 2^-14, where the rest is
 * rounded to nearest first: less than 2^-17 of a step is nothing. What is larger than the largest number, infinite or NaN
 * is rounded to nearest: what that leaves finite stays finite. */
PORTABLE uint16_t bf16_stochastic(float value, uint32_t random) {
  uint32_t bits = float_to_bits(value);
  uint32_t rounded = (bits + (random >> 16)) >> 16;
  return (bits & 0x7FFFFFFF) > 0x7F7F0000 ? bf16_from_float(value) : (uint16_t)rounded;
}

PORTABLE uint16_t f16_stochastic(float value, uint32_t random) {
  uint32_t bits = float_to_bits(value);
  uint32_t sign = (bits >> 16) & 0x8000;
  uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t normal = (magnitude - 0x38000000 + (random >> 19)) >> 13;
  /* In steps of 2^-24, with 16 bits of fraction. What is not below 2^-14 is not used, and must fit. */
  float small = magnitude < 0x38800000 ? float_from_bits(magnitude) * 0x1p40f : 0.0f;
  float nearest = small < 0x1p23f ? small + 0.5f : small;
  uint32_t subnormal = ((uint32_t)(int32_t)nearest + (random >> 16)) >> 16;
  uint32_t rounded = sign | (magnitude < 0x38800000 ? subnormal : normal);
  return magnitude > 0x477FE000 ? f16_from_float(value) : (uint16_t)rounded;
}

/* Towards zero, clamped to [low, high]; NaN gives 0. */
PORTABLE int64_t integer_from_float(float value, int64_t low, int64_t high) {
  if (value != value) return 0;
  if (value <= (float)low) return low;
  if (value >= (float)high) return high;
  return (int64_t)value;
}

#endif
