/* Numbers as scripts give them, and the integers that tensors hold. */
#ifndef FP8_CORE_NUMBER_H
#define FP8_CORE_NUMBER_H

#include <math.h>

#include "core/portable.h"

/* Doubles hold every whole number up to here. */
#define NUMBER_WHOLE_MOST 0x1p53

/* Whether `number` is a whole number that doubles tell from its neighbours: a size, a position, a seed. */
PORTABLE bool number_is_whole(double number) { return number == floor(number) && fabs(number) <= NUMBER_WHOLE_MOST; }

/* Towards zero, saturating; NaN gives 0. */
PORTABLE int64_t int64_from_double(double number) {
  if (number != number) return 0;
  if (number <= -0x1p63) return INT64_MIN;
  if (number >= 0x1p63) return INT64_MAX;
  return (int64_t)number;
}

/* A number that meets tensors: computations in floats take `value`, those in integers `integer`. */
typedef struct Number {
  double
      value; /* of an integer that no double is, one of its neighbours, which becomes the same in every float dtype */
  int64_t integer; /* the number itself where it is an integer of 64 bits, else as int64_from_double has it */
} Number;

PORTABLE Number number_of(double value) {
  Number number = {value, int64_from_double(value)};
  return number;
}

/* The neighbour is the one "to odd" (float_formats.h): towards zero, with the last bit set if that lost something. */
PORTABLE Number number_of_integer(int64_t integer) {
  uint64_t magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
  int lost = 0; /* bits below those of a double */
  while (magnitude >> lost >= (uint64_t)1 << 53) lost++;
  uint64_t kept = magnitude >> lost;
  if (kept << lost != magnitude) kept |= 1;
  double value = (double)(kept << lost);
  Number number = {integer < 0 ? -value : value, integer};
  return number;
}

/* Whether the number is an integer of 64 bits. */
PORTABLE bool number_is_integer(Number number) {
  return number.value == floor(number.value) && number.value >= -0x1p63 && number.value < 0x1p63;
}

/* `value`, or the end of [low, high] that it lies beyond. */
PORTABLE int64_t int64_clamp(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

/* A sum of 64-bit integers that never overflows: high · 2^32 + low, low from 0 to 2^32 - 1. */
typedef struct WideSum {
  int64_t high, low;
} WideSum;

PORTABLE WideSum wide_add(WideSum a, WideSum b) {
  uint64_t low = (uint64_t)a.low + (uint64_t)b.low;
  WideSum sum = {a.high + b.high + (int64_t)(low >> 32), (int64_t)(low & UINT32_MAX)};
  return sum;
}

PORTABLE WideSum wide_of(int64_t value) {
  WideSum sum = {value >> 32, (int64_t)((uint64_t)value & UINT32_MAX)};
  return sum;
}

/* Rounded to a double: once where there are fewer than 2^22 terms. */
PORTABLE double wide_value(WideSum sum) { return (double)sum.high * 0x1p32 + (double)sum.low; }

/* a / b rounded up, for a >= 0 and b > 0; in C++ of the type that the expression has. */
#ifdef __cplusplus
template <typename A, typename B> static __host__ __device__ inline constexpr auto divide_up(A a, B b) {
  return (a + b - 1) / b;
}
#else
static inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
#endif

#endif
