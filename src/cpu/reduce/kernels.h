/* Accumulating elements into sums, extremes and positions. */
#ifndef FP8_CPU_REDUCE_KERNELS_H
#define FP8_CPU_REDUCE_KERNELS_H

#include "backend.h"

/* What has been reduced so far, for one or many outputs: sums and extremes of floats as `number`, of integers as
 * `integer`. */
typedef union ReduceValue {
  double number;
  int64_t integer;
} ReduceValue;

/* `position` of the extreme, for ARGMAX. For the MEAN of integers, a WideSum of which `integer` is the low part and
 * `position` the high one. Otherwise unused. */
typedef struct Accumulators {
  ReduceValue *value;
  int64_t *position;
} Accumulators;

void accumulators_start(ReduceOp op, bool integer, Accumulators all, int64_t count);

/* n elements, the first at position `first`, into one accumulator. */
void accumulate_run_floats(ReduceOp op, Accumulators one, const float *x, int n, int64_t first);
void accumulate_run_integers(ReduceOp op, Accumulators one, const int64_t *x, int n, int64_t first);

/* n elements, all at `position`, one into each of n accumulators. */
void accumulate_columns_floats(ReduceOp op, Accumulators all, const float *x, int n, int64_t position);
void accumulate_columns_integers(ReduceOp op, Accumulators all, const int64_t *x, int n, int64_t position);

/* Sums of floats only: the n elements of each of four rows, the rows `stride` elements apart. */
void accumulate_four_rows(Accumulators all, const float *x, int64_t stride, int n);

static inline WideSum accumulated_sum(Accumulators all, int64_t i) {
  return (WideSum){all.position[i], all.value[i].integer};
}

/* Adds to `all` what `later` has from higher positions. */
void accumulators_merge(ReduceOp op, bool integer, Accumulators all, Accumulators later, int64_t count);

#endif
