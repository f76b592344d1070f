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

/* `rest` is the position of the extreme, for ARGMAX. For the MEAN of integers, `value` is the low part of a WideSum and
 * `rest` the high one; for VAR and STD they are the sums that variance_of takes. Otherwise `rest` is unused. */
typedef struct Accumulators {
  ReduceValue *value;
  ReduceValue *rest;
} Accumulators;

void accumulators_start(ReduceOp op, bool integer, Accumulators all, int64_t count);

/* n elements, the first at position `first`, into one accumulator. */
void accumulate_run_floats(ReduceOp op, Accumulators one, const float *x, int n, int64_t first);
void accumulate_run_integers(ReduceOp op, Accumulators one, const int64_t *x, int n, int64_t first);

/* n elements, all at `position`, one into each of n accumulators. */
void accumulate_columns_floats(ReduceOp op, Accumulators all, const float *x, int n, int64_t position);
void accumulate_columns_integers(ReduceOp op, Accumulators all, const int64_t *x, int n, int64_t position);

static inline bool takes_moments(ReduceOp op) { return op == REDUCE_VAR || op == REDUCE_STD; }

/* n elements into one accumulator of VAR or STD, or one into each of n; origin: the first element of each output. */
void accumulate_moments(Accumulators one, const float *x, float origin, int n);
void accumulate_column_moments(Accumulators all, const float *x, const float *origin, int n);

/* Whether there are the two functions below, which take elements as they are in memory. */
bool accumulates_runs(ReduceOp op, DType dtype);

/* The n elements of each of `rows` rows, `stride` bytes apart, into an accumulator each; is_far: of a tensor that is
 * fetched ahead (vectors.h). */
void accumulate_rows(ReduceOp op, DType dtype, Accumulators all, const void *x, int64_t stride, int rows, int n,
                     bool is_far);

/* The n elements, at most CHUNK, of each of four rows, the rows `stride` bytes apart. */
void accumulate_four_rows(ReduceOp op, DType dtype, Accumulators all, const void *x, int64_t stride, int n);

/* Sums of f16 or bf16 only: eight rows, added in float32 (vectors.c, sum_of_eights). */
void accumulate_eight_rows(DType dtype, Accumulators all, const void *x, int64_t stride, int n);
bool are_finite(Accumulators all, int n);

static inline WideSum accumulated_sum(Accumulators all, int64_t i) {
  return (WideSum){all.rest[i].integer, all.value[i].integer};
}

/* Adds to `all` what `later` has from higher positions. */
void accumulators_merge(ReduceOp op, bool integer, Accumulators all, Accumulators later, int64_t count);

#endif
