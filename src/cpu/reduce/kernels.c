#include "cpu/reduce/kernels.h"

#include <math.h>

#include "cpu/vectorize.h"

/* Independent partial results, so that a loop over them is a vector operation. */
enum { LANES = 32 };

void accumulators_start(ReduceOp op, bool integer, Accumulators all, int64_t count) {
  ReduceValue start = {.number = 0};
  if (op == REDUCE_MAX || op == REDUCE_ARGMAX) {
    start = integer ? (ReduceValue){.integer = INT64_MIN} : (ReduceValue){.number = -INFINITY};
  } else if (op == REDUCE_MIN) {
    start = integer ? (ReduceValue){.integer = INT64_MAX} : (ReduceValue){.number = INFINITY};
  } else if (integer) {
    start.integer = 0;
  }
  for (int64_t i = 0; i < count; i++) {
    all.value[i] = start;
    all.position[i] = 0;
  }
}

/* --- one accumulator --- */

VECTORIZE double sum_floats(const float *x, int n) {
  double lane[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] += (double)x[i + j];
  }
  for (; i < n; i++) lane[0] += (double)x[i];
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

static inline float larger_or_nan(float a, float b) { return b > a || b != b ? b : a; }
static inline float smaller_or_nan(float a, float b) { return b < a || b != b ? b : a; }

VECTORIZE float max_floats(const float *x, int n) {
  float lane[LANES];
  for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] = larger_or_nan(lane[j], x[i + j]);
  }
  for (; i < n; i++) lane[0] = larger_or_nan(lane[0], x[i]);
  for (int j = 1; j < LANES; j++) lane[0] = larger_or_nan(lane[0], lane[j]);
  return lane[0];
}

VECTORIZE static float min_floats(const float *x, int n) {
  float lane[LANES];
  for (int j = 0; j < LANES; j++) lane[j] = INFINITY;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] = smaller_or_nan(lane[j], x[i + j]);
  }
  for (; i < n; i++) lane[0] = smaller_or_nan(lane[0], x[i]);
  for (int j = 1; j < LANES; j++) lane[0] = smaller_or_nan(lane[0], lane[j]);
  return lane[0];
}

/* Whether `later` takes the place of `earlier` as the first largest: NaN is largest. */
static bool beats(double later, double earlier) { return later > earlier || (later != later && earlier == earlier); }

void accumulate_run_floats(ReduceOp op, Accumulators one, const float *x, int n, int64_t first) {
  double *number = &one.value->number;
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
    *number += sum_floats(x, n);
    break;
  case REDUCE_MAX:
    *number = (double)larger_or_nan((float)*number, max_floats(x, n));
    break;
  case REDUCE_MIN:
    *number = (double)smaller_or_nan((float)*number, min_floats(x, n));
    break;
  case REDUCE_ARGMAX: {
    float largest = max_floats(x, n);
    if (!beats((double)largest, *number)) break;
    int i = 0;
    while (x[i] != largest && x[i] == x[i]) i++;
    *number = (double)largest;
    *one.position = first + i;
    break;
  }
  case REDUCE_COUNT:
    break;
  }
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

static int64_t wrapping_sum(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }

void accumulate_run_integers(ReduceOp op, Accumulators one, const int64_t *x, int n, int64_t first) {
  int64_t *integer = &one.value->integer;
  if (op == REDUCE_SUM || op == REDUCE_MEAN) {
    *integer = wrapping_sum(*integer, sum_integers(x, n));
  } else if (op == REDUCE_MIN) {
    int64_t smallest = min_integers(x, n);
    if (smallest < *integer) *integer = smallest;
  } else {
    int64_t largest = max_integers(x, n);
    if (largest <= *integer) return;
    int i = 0;
    while (x[i] != largest) i++;
    *integer = largest;
    *one.position = first + i;
  }
}

/* --- many accumulators --- */

VECTORIZE void accumulate_columns_floats(ReduceOp op, Accumulators all, const float *restrict x, int n,
                                         int64_t position) {
  ReduceValue *restrict value = all.value;
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
    for (int i = 0; i < n; i++) value[i].number += (double)x[i];
    break;
  case REDUCE_MAX:
    for (int i = 0; i < n; i++) value[i].number = (double)larger_or_nan((float)value[i].number, x[i]);
    break;
  case REDUCE_MIN:
    for (int i = 0; i < n; i++) value[i].number = (double)smaller_or_nan((float)value[i].number, x[i]);
    break;
  case REDUCE_ARGMAX:
    for (int i = 0; i < n; i++) {
      if (!beats((double)x[i], value[i].number)) continue;
      value[i].number = (double)x[i];
      all.position[i] = position;
    }
    break;
  case REDUCE_COUNT:
    break;
  }
}

/* Reading and writing the accumulators is what costs time, so four rows share it. */
VECTORIZE void accumulate_four_rows(Accumulators all, const float *restrict x, int64_t stride, int n) {
  ReduceValue *restrict value = all.value;
  const float *a = x, *b = x + stride, *c = x + 2 * stride, *d = x + 3 * stride;
  for (int i = 0; i < n; i++) {
    value[i].number += ((double)a[i] + (double)b[i]) + ((double)c[i] + (double)d[i]);
  }
}

VECTORIZE void accumulate_columns_integers(ReduceOp op, Accumulators all, const int64_t *restrict x, int n,
                                           int64_t position) {
  ReduceValue *restrict value = all.value;
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_MEAN:
    for (int i = 0; i < n; i++) value[i].integer = wrapping_sum(value[i].integer, x[i]);
    break;
  case REDUCE_MAX:
    for (int i = 0; i < n; i++) value[i].integer = x[i] > value[i].integer ? x[i] : value[i].integer;
    break;
  case REDUCE_MIN:
    for (int i = 0; i < n; i++) value[i].integer = x[i] < value[i].integer ? x[i] : value[i].integer;
    break;
  case REDUCE_ARGMAX:
    for (int i = 0; i < n; i++) {
      if (x[i] <= value[i].integer) continue;
      value[i].integer = x[i];
      all.position[i] = position;
    }
    break;
  case REDUCE_COUNT:
    break;
  }
}

void accumulators_merge(ReduceOp op, bool integer, Accumulators all, Accumulators later, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    ReduceValue *a = &all.value[i], b = later.value[i];
    if (op == REDUCE_SUM || op == REDUCE_MEAN) {
      if (integer) {
        a->integer = wrapping_sum(a->integer, b.integer);
      } else {
        a->number += b.number;
      }
      continue;
    }
    bool smallest = op == REDUCE_MIN;
    bool replace = integer ? (smallest ? b.integer < a->integer : b.integer > a->integer)
                           : (smallest ? beats(-b.number, -a->number) : beats(b.number, a->number));
    if (!replace) continue;
    *a = b;
    all.position[i] = later.position[i];
  }
}
