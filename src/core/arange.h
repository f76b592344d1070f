/* Elements of arange for an integer output, in 64 bits and saturated there. */
#ifndef FP8_CORE_ARANGE_H
#define FP8_CORE_ARANGE_H

#include "core/portable.h"

/* start + i · step, exactly. */
PORTABLE int64_t arange_integer(int64_t start, int64_t step, int64_t i) {
  __int128 value = (__int128)i * step + start;
  return value < INT64_MIN ? INT64_MIN : value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* The same where start or step is not a whole number of 64 bits: in double, then towards zero. */
PORTABLE int64_t arange_truncated(double start, double step, int64_t i) {
  double value = start + (double)i * step;
  return value <= -0x1p63 ? INT64_MIN : value >= 0x1p63 ? INT64_MAX : (int64_t)value;
}

#endif
