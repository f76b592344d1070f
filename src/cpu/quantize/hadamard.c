/* Hadamard transforms. Groups of rows are done for many columns at once, groups of a row one after the other. */
#include "core/formats/hadamard.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* RADIX: rows, or lists of lanes, that registers hold at once. */
enum { WIDTH = 64, RADIX = 16, LANES = 8 };

typedef float Lanes __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t LaneNumbers __attribute__((vector_size(4 * LANES)));

typedef struct Transform {
  const HadamardRule *rule;
  const float *sign; /* of the elements of a group */
  DType dtype;
  const void *x;
  void *out;
  int64_t rows, columns;
  int64_t strips; /* of columns, for groups of rows */
} Transform;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Sums and differences of a list's elements 1, 2, 4 … apart, in registers. */
INLINED void add_and_subtract(Lanes *list, const int count) {
#pragma GCC unroll 4
  for (int step = 1; step < count; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
      if (i & step) continue;
      Lanes a = list[i], b = list[i + step];
      list[i] = a + b;
      list[i + step] = a - b;
    }
  }
}

/* --- groups of rows --- */

/* Of `count` rows of WIDTH values, `stride` values apart, which are multiplied by their signs first and by the factor at
 * the end. */
INLINED void combine_rows(float *value, int stride, const int count, const float *sign, float factor) {
  for (int k = 0; k < WIDTH; k += LANES) {
    Lanes row[RADIX];
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) row[i] = *(Lanes *)(value + i * stride + k) * (sign ? sign[i] : 1.0f);
    add_and_subtract(row, count);
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) *(Lanes *)(value + i * stride + k) = row[i] * factor;
  }
}

/* WIDTH values of each of `length` elements. */
VECTORIZE static void transform_columns(float *value, const float *sign, int length) {
  const float factor = hadamard_factor(length);
  for (int first = 0; first < length; first += RADIX) {
    combine_rows(value + first * WIDTH, WIDTH, RADIX, sign + first, length == RADIX ? factor : 1.0f);
  }
  for (int i = 0; i < RADIX && length > RADIX; i++) {
    float *row = value + i * WIDTH;
    if (length == 2 * RADIX) {
      combine_rows(row, RADIX * WIDTH, 2, NULL, factor);
    } else if (length == 4 * RADIX) {
      combine_rows(row, RADIX * WIDTH, 4, NULL, factor);
    } else {
      combine_rows(row, RADIX * WIDTH, 8, NULL, factor);
    }
  }
}

/* Strips of groups of rows; the last group may be short, and is copied. */
static void transform_strips(int64_t begin, int64_t end, const void *context) {
  const Transform *job = context;
  const int length = job->rule->length;
  _Alignas(sizeof(Lanes)) float value[HADAMARD_MOST * WIDTH] = {0};
  for (int64_t number = begin; number < end; number++) {
    int64_t row = number / job->strips * length, column = number % job->strips * WIDTH;
    int rows = (int)smaller(length, job->rows - row), n = (int)smaller(WIDTH, job->columns - column);
    for (int i = 0; i < rows; i++) {
      float *own = value + i * WIDTH;
      const float *x = load_floats(job->dtype, job->x, (row + i) * job->columns + column, n, own);
      if (x != own) memcpy(own, x, (size_t)n * sizeof *x);
    }
    if (rows == length) transform_columns(value, job->sign, length);
    for (int i = 0; i < rows; i++) {
      store_floats(job->dtype, job->out, (row + i) * job->columns + column, n, value + i * WIDTH);
    }
  }
}

/* --- groups of a row --- */

/* Sums and differences of elements 1, 2 and 4 apart: what the one beside it adds to an element, or is taken from. */
INLINED void combine_lanes(Lanes *list) {
  const Lanes odd = {1, -1, 1, -1, 1, -1, 1, -1}, second = {1, 1, -1, -1, 1, 1, -1, -1};
  const Lanes upper = {1, 1, 1, 1, -1, -1, -1, -1};
  Lanes value = *list;
  value = __builtin_shuffle(value, (LaneNumbers){1, 0, 3, 2, 5, 4, 7, 6}) + value * odd;
  value = __builtin_shuffle(value, (LaneNumbers){2, 3, 0, 1, 6, 7, 4, 5}) + value * second;
  *list = __builtin_shuffle(value, (LaneNumbers){4, 5, 6, 7, 0, 1, 2, 3}) + value * upper;
}

/* Groups of `count` lists of lanes. */
INLINED void combine_groups(float *value, int64_t groups, const int count, const float *sign) {
  const float factor = hadamard_factor(count * LANES);
  for (int64_t group = 0; group < groups; group++, value += count * LANES) {
    Lanes list[RADIX];
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
      list[i] = *(Lanes *)(value + i * LANES) * *(const Lanes *)(sign + i * LANES);
      combine_lanes(&list[i]);
    }
    add_and_subtract(list, count);
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) *(Lanes *)(value + i * LANES) = list[i] * factor;
  }
}

VECTORIZE static void transform_groups(float *value, const float *sign, int length, int64_t groups) {
  if (length == 2 * LANES) {
    combine_groups(value, groups, 2, sign);
  } else if (length == 4 * LANES) {
    combine_groups(value, groups, 4, sign);
  } else if (length == 8 * LANES) {
    combine_groups(value, groups, 8, sign);
  } else {
    combine_groups(value, groups, 16, sign);
  }
}

/* What is left of a row after whole groups is copied. */
static void transform_rows(int64_t begin, int64_t end, const void *context) {
  const Transform *job = context;
  _Alignas(sizeof(Lanes)) float value[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t start = row * job->columns;
    for (int64_t column = 0; column < job->columns; column += CHUNK) {
      int n = (int)smaller(CHUNK, job->columns - column);
      const float *x = load_floats(job->dtype, job->x, start + column, n, value);
      if (x != value) memcpy(value, x, (size_t)n * sizeof *x);
      transform_groups(value, job->sign, job->rule->length, n / job->rule->length);
      store_floats(job->dtype, job->out, start + column, n, value);
    }
  }
}

bool cpu_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule) {
  Tensor matrix = tensor_as_matrix(x);
  _Alignas(sizeof(Lanes)) float sign[HADAMARD_MOST];
  for (int i = 0; i < rule->length; i++) sign[i] = hadamard_signed(rule, i, 1.0f);
  Transform job = {.rule = rule,
                   .sign = sign,
                   .dtype = x->dtype,
                   .x = tensor_data(x),
                   .out = tensor_data(out),
                   .rows = matrix.size[0],
                   .columns = matrix.size[1]};
  if (job.rows == 0 || job.columns == 0) return true;
  if (rule->down) {
    job.strips = divide_up(job.columns, WIDTH);
    parallel_for(divide_up(job.rows, rule->length) * job.strips, rule->length * WIDTH, transform_strips, &job);
  } else {
    parallel_for(job.rows, job.columns, transform_rows, &job);
  }
  return true;
}
