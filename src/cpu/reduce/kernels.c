#include "cpu/reduce/kernels.h"

#include <math.h>

#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* What a reduction starts from. */
static ReduceValue neutral_value(ReduceOp op, bool integer) {
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
  case REDUCE_NORM:
  case REDUCE_VAR:
  case REDUCE_STD:
    return integer ? (ReduceValue){.integer = 0} : (ReduceValue){.number = 0};
  case REDUCE_PROD:
    return integer ? (ReduceValue){.integer = 1} : (ReduceValue){.number = 1};
  case REDUCE_MAX:
  case REDUCE_ARGMAX:
    return integer ? (ReduceValue){.integer = INT64_MIN} : (ReduceValue){.number = -INFINITY};
  case REDUCE_MIN:
    return integer ? (ReduceValue){.integer = INT64_MAX} : (ReduceValue){.number = INFINITY};
  }
  trap_missing_case();
}

void accumulators_start(ReduceOp op, bool integer, Accumulators all, int64_t count) {
  ReduceValue start = neutral_value(op, integer);
  for (int64_t i = 0; i < count; i++) {
    all.value[i] = start;
    all.rest[i].integer = 0; /* of a double too */
  }
}

/* --- one accumulator --- */

/* Whether `later` takes the place of `earlier` as the first largest: NaN is largest. */
static bool beats(double later, double earlier) { return later > earlier || (later != later && earlier == earlier); }

bool accumulates_runs(ReduceOp op, DType dtype) {
  bool compute_float = dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16;
  return compute_float && op != REDUCE_PROD && op != REDUCE_ARGMAX && !takes_moments(op);
}

static void accumulate_run(ReduceOp op, ReduceValue *value, DType dtype, const void *x, int n, bool is_far) {
  double *number = &value->number;
  if (op == REDUCE_MAX) {
    *number = (double)larger_or_nan((float)*number, max_run(dtype, x, n));
  } else if (op == REDUCE_MIN) {
    *number = (double)smaller_or_nan((float)*number, min_run(dtype, x, n));
  } else {
    *number += op == REDUCE_NORM ? squares_of_run(dtype, x, n) : sum_run(dtype, x, n, is_far);
  }
}

void accumulate_rows(ReduceOp op, DType dtype, Accumulators all, const void *x, int64_t stride, int rows, int n,
                     bool is_far) {
  for (int i = 0; i < rows; i++) accumulate_run(op, all.value + i, dtype, (const char *)x + i * stride, n, is_far);
}

/* Four chains, so that no product waits for the one before it. */
VECTORIZE static double product_of_floats(const float *x, int n) {
  double product[4] = {1, 1, 1, 1};
  int i = 0;
  for (; i + 4 <= n; i += 4) {
    for (int k = 0; k < 4; k++) product[k] *= (double)x[i + k];
  }
  for (; i < n; i++) product[0] *= (double)x[i];
  return (product[0] * product[1]) * (product[2] * product[3]);
}

void accumulate_run_floats(ReduceOp op, Accumulators one, const float *x, int n, int64_t first) {
  double *number = &one.value->number;
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
  case REDUCE_NORM:
  case REDUCE_MAX:
  case REDUCE_MIN:
    accumulate_run(op, one.value, DTYPE_F32, x, n, false);
    return;
  case REDUCE_PROD:
    *number *= product_of_floats(x, n);
    return;
  case REDUCE_ARGMAX: {
    float largest = max_floats(x, n);
    if (!beats((double)largest, *number)) return;
    int i = 0;
    while (x[i] != largest && x[i] == x[i]) i++;
    *number = (double)largest;
    one.rest->integer = first + i;
    return;
  }
  case REDUCE_VAR: /* accumulate_moments */
  case REDUCE_STD:
    break;
  }
  trap_missing_case();
}

VECTORIZE static int64_t sum_integers(const int64_t *x, int n) {
  uint64_t sum = 0;
  for (int i = 0; i < n; i++) sum += (uint64_t)x[i];
  return (int64_t)sum;
}

VECTORIZE static int64_t max_integers(const int64_t *x, int n) {
  int64_t largest = INT64_MIN;
  for (int i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

VECTORIZE static int64_t min_integers(const int64_t *x, int n) {
  int64_t smallest = INT64_MAX;
  for (int i = 0; i < n; i++) smallest = x[i] < smallest ? x[i] : smallest;
  return smallest;
}

/* Terms of either part add up to less than 2^63 in any chunk. */
VECTORIZE static WideSum wide_sum(const int64_t *x, int n) {
  int64_t high = 0, low = 0;
  for (int i = 0; i < n; i++) {
    high += x[i] >> 32;
    low += (int64_t)((uint64_t)x[i] & UINT32_MAX);
  }
  return wide_add((WideSum){high, 0}, (WideSum){0, low});
}

static inline void add_wide(Accumulators all, int64_t i, WideSum term) {
  WideSum sum = wide_add(accumulated_sum(all, i), term);
  all.rest[i].integer = sum.high;
  all.value[i].integer = sum.low;
}

static int64_t wrapping_sum(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t wrapping_product(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

void accumulate_run_integers(ReduceOp op, Accumulators one, const int64_t *x, int n, int64_t first) {
  int64_t *integer = &one.value->integer;
  switch (op) {
  case REDUCE_SUM:
    *integer = wrapping_sum(*integer, sum_integers(x, n));
    return;
  case REDUCE_MEAN:
    add_wide(one, 0, wide_sum(x, n));
    return;
  case REDUCE_PROD:
    for (int i = 0; i < n; i++) *integer = wrapping_product(*integer, x[i]);
    return;
  case REDUCE_MIN: {
    int64_t smallest = min_integers(x, n);
    if (smallest < *integer) *integer = smallest;
    return;
  }
  case REDUCE_MAX:
  case REDUCE_ARGMAX: {
    int64_t largest = max_integers(x, n);
    if (largest <= *integer) return;
    int i = 0;
    while (x[i] != largest) i++;
    *integer = largest;
    one.rest->integer = first + i;
    return;
  }
  case REDUCE_NORM: /* of floats only */
  case REDUCE_VAR:
  case REDUCE_STD:
    break;
  }
  trap_missing_case();
}

VECTORIZE void accumulate_moments(Accumulators one, const float *x, float origin, int n) {
  enum { LANES = 16 };
  double sum[LANES] = {0}, squares[LANES] = {0}, from = (double)origin;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      double difference = (double)x[i + j] - from;
      sum[j] += difference;
      squares[j] += difference * difference;
    }
  }
  for (int j = 0; i < n; i++, j++) {
    double difference = (double)x[i] - from;
    sum[j] += difference;
    squares[j] += difference * difference;
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) {
      sum[j] += sum[j + width];
      squares[j] += squares[j + width];
    }
  }
  one.value->number += sum[0];
  one.rest->number += squares[0];
}

/* --- many accumulators --- */

VECTORIZE void accumulate_column_moments(Accumulators all, const float *restrict x, const float *restrict origin,
                                         int n) {
  ReduceValue *restrict value = all.value, *restrict rest = all.rest;
#pragma omp simd
  for (int i = 0; i < n; i++) {
    double difference = (double)x[i] - (double)origin[i];
    value[i].number += difference;
    rest[i].number += difference * difference;
  }
}

VECTORIZE void accumulate_columns_floats(ReduceOp op, Accumulators all, const float *restrict x, int n,
                                         int64_t position) {
  ReduceValue *restrict value = all.value;
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
#pragma omp simd
    for (int i = 0; i < n; i++) value[i].number += (double)x[i];
    return;
  case REDUCE_PROD:
#pragma omp simd
    for (int i = 0; i < n; i++) value[i].number *= (double)x[i];
    return;
  case REDUCE_NORM:
#pragma omp simd
    for (int i = 0; i < n; i++) value[i].number += (double)x[i] * (double)x[i];
    return;
  case REDUCE_MAX:
#pragma omp simd
    for (int i = 0; i < n; i++) value[i].number = (double)larger_or_nan((float)value[i].number, x[i]);
    return;
  case REDUCE_MIN:
#pragma omp simd
    for (int i = 0; i < n; i++) value[i].number = (double)smaller_or_nan((float)value[i].number, x[i]);
    return;
  case REDUCE_ARGMAX:
    for (int i = 0; i < n; i++) {
      if (!beats((double)x[i], value[i].number)) continue;
      value[i].number = (double)x[i];
      all.rest[i].integer = position;
    }
    return;
  case REDUCE_VAR: /* accumulate_column_moments */
  case REDUCE_STD:
    break;
  }
  trap_missing_case();
}

/* Reading and writing the accumulators is what costs time, so four rows share it. */
INLINED void add_four_rows(bool squares, DType dtype, ReduceValue *restrict value, const char *x, int64_t stride,
                           int n) {
  const void *first = x, *second = x + stride, *third = x + 2 * stride, *fourth = x + 3 * stride;
#pragma omp simd
  for (int i = 0; i < n; i++) {
    double a = (double)element_at(dtype, first, i), b = (double)element_at(dtype, second, i);
    double c = (double)element_at(dtype, third, i), d = (double)element_at(dtype, fourth, i);
    value[i].number += squares ? (a * a + b * b) + (c * c + d * d) : (a + b) + (c + d);
  }
}

enum { PART = 64 };

INLINED float extreme_of(bool smallest, float a, float b) {
  return smallest ? smaller_or_nan(a, b) : larger_or_nan(a, b);
}

/* In a loop a row: more comparisons in one would not be vectorized. */
INLINED void extremes_of_part(bool smallest, DType dtype, ReduceValue *restrict value, const char *x, int64_t stride,
                              int n) {
  float best[PART];
#pragma omp simd
  for (int i = 0; i < n; i++) best[i] = extreme_of(smallest, element_at(dtype, x, i), element_at(dtype, x + stride, i));
  for (int row = 2; row < 4; row++) {
    const void *next = x + row * stride;
#pragma omp simd
    for (int i = 0; i < n; i++) best[i] = extreme_of(smallest, best[i], element_at(dtype, next, i));
  }
#pragma omp simd
  for (int i = 0; i < n; i++) value[i].number = (double)extreme_of(smallest, (float)value[i].number, best[i]);
}

/* Part by part, so that the four rows are fetched beside each other. */
INLINED void extremes_of_four_rows(bool smallest, DType dtype, ReduceValue *restrict value, const char *x,
                                   int64_t stride, int n) {
  int i = 0, element = dtype == DTYPE_F32 ? 4 : 2;
  for (; i + PART <= n; i += PART) {
    for (int row = 4; row < 8; row++) fetch_ahead(x + row * stride + i * element, PART * element);
    extremes_of_part(smallest, dtype, value + i, x + i * element, stride, PART);
  }
  extremes_of_part(smallest, dtype, value + i, x + i * element, stride, n - i);
}

INLINED void four_rows(ReduceOp op, DType dtype, ReduceValue *restrict value, const char *x, int64_t stride, int n) {
  if (op == REDUCE_SUM || op == REDUCE_MEAN) {
    add_four_rows(false, dtype, value, x, stride, n);
  } else if (op == REDUCE_NORM) {
    add_four_rows(true, dtype, value, x, stride, n);
  } else if (op == REDUCE_MAX) {
    extremes_of_four_rows(false, dtype, value, x, stride, n);
  } else {
    extremes_of_four_rows(true, dtype, value, x, stride, n);
  }
}

VECTORIZE void accumulate_four_rows(ReduceOp op, DType dtype, Accumulators all, const void *x, int64_t stride, int n) {
  if (dtype == DTYPE_F32) {
    four_rows(op, DTYPE_F32, all.value, x, stride, n);
  } else if (dtype == DTYPE_BF16) {
    four_rows(op, DTYPE_BF16, all.value, x, stride, n);
  } else {
    four_rows(op, DTYPE_F16, all.value, x, stride, n);
  }
}

INLINED void add_eight_rows(DType dtype, ReduceValue *restrict value, const char *x, int64_t stride, int n) {
#pragma omp simd
  for (int i = 0; i < n; i++) {
    float a = element_at(dtype, x, i) + element_at(dtype, x + stride, i);
    float b = element_at(dtype, x + 2 * stride, i) + element_at(dtype, x + 3 * stride, i);
    float c = element_at(dtype, x + 4 * stride, i) + element_at(dtype, x + 5 * stride, i);
    float d = element_at(dtype, x + 6 * stride, i) + element_at(dtype, x + 7 * stride, i);
    value[i].number += (double)((a + b) + (c + d));
  }
}

VECTORIZE void accumulate_eight_rows(DType dtype, Accumulators all, const void *x, int64_t stride, int n) {
  if (dtype == DTYPE_BF16) {
    add_eight_rows(DTYPE_BF16, all.value, x, stride, n);
  } else {
    add_eight_rows(DTYPE_F16, all.value, x, stride, n);
  }
}

bool are_finite(Accumulators all, int n) {
  bool finite = true;
  for (int i = 0; i < n; i++) finite &= fabs(all.value[i].number) < INFINITY;
  return finite;
}

VECTORIZE void accumulate_columns_integers(ReduceOp op, Accumulators all, const int64_t *restrict x, int n,
                                           int64_t position) {
  ReduceValue *restrict value = all.value;
  switch (op) {
  case REDUCE_SUM:
    for (int i = 0; i < n; i++) value[i].integer = wrapping_sum(value[i].integer, x[i]);
    return;
  case REDUCE_MEAN:
    for (int i = 0; i < n; i++) add_wide(all, i, wide_of(x[i]));
    return;
  case REDUCE_PROD:
    for (int i = 0; i < n; i++) value[i].integer = wrapping_product(value[i].integer, x[i]);
    return;
  case REDUCE_MAX:
    for (int i = 0; i < n; i++) value[i].integer = x[i] > value[i].integer ? x[i] : value[i].integer;
    return;
  case REDUCE_MIN:
    for (int i = 0; i < n; i++) value[i].integer = x[i] < value[i].integer ? x[i] : value[i].integer;
    return;
  case REDUCE_ARGMAX:
    for (int i = 0; i < n; i++) {
      if (x[i] <= value[i].integer) continue;
      value[i].integer = x[i];
      all.rest[i].integer = position;
    }
    return;
  case REDUCE_NORM: /* of floats only */
  case REDUCE_VAR:
  case REDUCE_STD:
    break;
  }
  trap_missing_case();
}

/* Whether `later` takes the place of `earlier`. */
static bool replaces(bool smallest, bool integer, ReduceValue later, ReduceValue earlier) {
  if (integer) return smallest ? later.integer < earlier.integer : later.integer > earlier.integer;
  return smallest ? beats(-later.number, -earlier.number) : beats(later.number, earlier.number);
}

static void merge_one(ReduceOp op, bool integer, Accumulators one, ReduceValue later, ReduceValue later_rest) {
  ReduceValue *value = one.value;
  switch (op) {
  case REDUCE_PROD:
    if (integer) {
      value->integer = wrapping_product(value->integer, later.integer);
    } else {
      value->number *= later.number;
    }
    return;
  case REDUCE_SUM:
  case REDUCE_MEAN:
  case REDUCE_NORM:
    if (!integer) {
      value->number += later.number;
    } else if (op == REDUCE_SUM) {
      value->integer = wrapping_sum(value->integer, later.integer);
    } else {
      add_wide(one, 0, (WideSum){later_rest.integer, later.integer});
    }
    return;
  case REDUCE_VAR:
  case REDUCE_STD:
    value->number += later.number;
    one.rest->number += later_rest.number;
    return;
  case REDUCE_MAX:
  case REDUCE_MIN:
  case REDUCE_ARGMAX:
    if (!replaces(op == REDUCE_MIN, integer, later, *value)) return;
    *value = later;
    *one.rest = later_rest;
    return;
  }
  trap_missing_case();
}

void accumulators_merge(ReduceOp op, bool integer, Accumulators all, Accumulators later, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    merge_one(op, integer, (Accumulators){all.value + i, all.rest + i}, later.value[i], later.rest[i]);
  }
}
