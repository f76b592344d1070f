/* Elements of arange for integer outputs. */
#ifndef FP8_CORE_ARANGE_H
#define FP8_CORE_ARANGE_H

#include "core/number.h"

/* Doubles above 2^53 have gaps; integers don't. `exact`: start and step are whole, and positions, which stay below 2^53,
 * times the step fit 128 bits. */
typedef struct ArangeRule {
  bool exact;
  double start, step;
} ArangeRule;

static inline bool arange_fits(double number) { return number == floor(number) && fabs(number) <= 0x1p73; }

static inline ArangeRule arange_rule(double start, double step) {
  ArangeRule rule = {arange_fits(start) && arange_fits(step), start, step};
  return rule;
}

/* start + i · step, towards zero, saturating. */
PORTABLE int64_t arange_integer(ArangeRule rule, int64_t i) {
  if (!rule.exact) return int64_from_double(rule.start + (double)i * rule.step);
  __int128 value = (__int128)rule.start + i * (__int128)rule.step;
  return value < INT64_MIN ? INT64_MIN : value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

#endif
