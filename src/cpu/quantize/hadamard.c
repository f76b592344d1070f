/* Hadamard transforms. Groups of rows are done for many columns at once, groups of a row one after the other. */
#include "core/formats/hadamard.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

enum { WIDTH = 64 };

typedef struct Transform {
  const HadamardRule *rule;
  DType dtype;
  const void *x;
  void *out;
  int64_t rows, columns;
  int64_t strips; /* of columns, for groups of rows */
} Transform;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* n values of each of `length` elements, WIDTH apart. */
VECTORIZE static void transform(float *value, const HadamardRule *rule, int n) {
  const float factor = hadamard_factor(rule->length);
  for (int i = 0; i < rule->length; i++) {
    float *row = value + i * WIDTH;
    for (int k = 0; k < n; k++) row[k] = hadamard_signed(rule, i, row[k]);
  }
  for (int step = 1; step < rule->length; step *= 2) {
    for (int i = 0; i < rule->length; i++) {
      if (i & step) continue;
      float *first = value + i * WIDTH, *second = first + step * WIDTH;
      for (int k = 0; k < n; k++) {
        float a = first[k], b = second[k];
        first[k] = a + b;
        second[k] = a - b;
      }
    }
  }
  for (int i = 0; i < rule->length * WIDTH; i++) value[i] *= factor;
}

/* Strips of groups of rows; the last group may be short, and is copied. */
static void transform_strips(int64_t begin, int64_t end, const void *context) {
  const Transform *job = context;
  const int length = job->rule->length;
  float value[HADAMARD_MOST * WIDTH], buffer[WIDTH];
  for (int64_t number = begin; number < end; number++) {
    int64_t row = number / job->strips * length, column = number % job->strips * WIDTH;
    int rows = (int)smaller(length, job->rows - row), n = (int)smaller(WIDTH, job->columns - column);
    for (int i = 0; i < rows; i++) {
      const float *x = load_floats(job->dtype, job->x, (row + i) * job->columns + column, n, buffer);
      for (int k = 0; k < WIDTH; k++) value[i * WIDTH + k] = k < n ? x[k] : 0;
    }
    if (rows == length) transform(value, job->rule, n);
    for (int i = 0; i < rows; i++) {
      store_floats(job->dtype, job->out, (row + i) * job->columns + column, n, value + i * WIDTH);
    }
  }
}

/* WIDTH groups of a row side by side, turned. */
static void transform_rows(int64_t begin, int64_t end, const void *context) {
  const Transform *job = context;
  const int length = job->rule->length;
  float value[HADAMARD_MOST * WIDTH], buffer[HADAMARD_MOST], turned[HADAMARD_MOST];
  for (int64_t row = begin; row < end; row++) {
    int64_t start = row * job->columns, groups = job->columns / length;
    for (int64_t first = 0; first < groups; first += WIDTH) {
      int n = (int)smaller(WIDTH, groups - first);
      for (int k = 0; k < WIDTH; k++) {
        int64_t at = start + (first + k) * length;
        const float *x = k < n ? load_floats(job->dtype, job->x, at, length, buffer) : NULL;
        for (int i = 0; i < length; i++) value[i * WIDTH + k] = x ? x[i] : 0;
      }
      transform(value, job->rule, n);
      for (int k = 0; k < n; k++) {
        for (int i = 0; i < length; i++) turned[i] = value[i * WIDTH + k];
        store_floats(job->dtype, job->out, start + (first + k) * length, length, turned);
      }
    }
    int64_t rest = groups * length, left = job->columns - rest;
    if (left > 0) {
      const float *x = load_floats(job->dtype, job->x, start + rest, (int)left, buffer);
      store_floats(job->dtype, job->out, start + rest, (int)left, x);
    }
  }
}

bool cpu_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule) {
  Tensor matrix = tensor_as_matrix(x);
  Transform job = {.rule = rule,
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
