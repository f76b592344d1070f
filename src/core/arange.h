/* Elements of arange, and how many there are. */
#ifndef FP8_CORE_ARANGE_H
#define FP8_CORE_ARANGE_H

#include "core/number.h"

/* Doubles above 2^53 have gaps; integers don't. `exact`: start and step are whole, and positions, which stay below 2^53,
 * times the step fit 128 bits. */
typedef struct ArangeRule {
  bool exact;
  double start, step;
  int64_t start_rest, step_rest; /* what integers of 64 bits are more than these */
} ArangeRule;

static inline bool arange_fits(Number number) {
  return number.value == floor(number.value) && fabs(number.value) <= 0x1p73;
}

static inline int64_t arange_rest(Number number) {
  return number_is_integer(number) ? number.integer - (int64_t)number.value : 0;
}

static inline ArangeRule arange_rule(Number start, Number step) {
  ArangeRule rule = {arange_fits(start) && arange_fits(step), start.value, step.value, arange_rest(start),
                     arange_rest(step)};
  return rule;
}

/* ceil((stop - start) / step), which may be negative. */
static inline double arange_count(Number start, Number stop, Number step) {
  if (!arange_fits(start) || !arange_fits(stop) || !arange_fits(step)) {
    return ceil((stop.value - start.value) / step.value);
  }
  __int128 length = (__int128)stop.value + arange_rest(stop) - (__int128)start.value - arange_rest(start);
  __int128 by = (__int128)step.value + arange_rest(step);
  return (double)(length / by + (length % by != 0 && (length > 0) == (by > 0)));
}

/* start + i · step */
PORTABLE double arange_number(ArangeRule rule, int64_t i) { return rule.start + (double)i * rule.step; }

/* The same towards zero, saturating. */
PORTABLE int64_t arange_integer(ArangeRule rule, int64_t i) {
  if (!rule.exact) return int64_from_double(arange_number(rule, i));
  __int128 value = (__int128)rule.start + rule.start_rest + i * ((__int128)rule.step + rule.step_rest);
  return value < INT64_MIN ? INT64_MIN : value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

#endif
