/* What quantizing did to a tensor: chunks of elements are counted and summed into slices, which are added up in
 * order, so the result does not depend on the number of threads. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

enum { COMPARE_SLICE = 65536, SQUARE_LANES = 16 };

typedef struct Compare {
  const Tensor *x, *values;
  const float *scale; /* NULL if saturation is not asked for */
  CompareRule rule;
  bool codes; /* `values` are to be multiplied by their scales */
  int64_t count;
  Comparison *slice;
} Compare;

/* Elements with one scale: x, what became of it, and the range of what the format can hold. */
typedef struct Run {
  const float *x, *value;
  int n;
  float low, high;
} Run;

/* The counts of a run, and copies of x and of its errors with 0 where x is not finite. */
VECTORIZE static void count_run(Comparison *all, Run run, float *restrict finite, float *restrict error) {
  const float *x = run.x, *value = run.value;
  int zeros = 0, nonfinite = 0, underflow = 0, saturated = 0;
  for (int i = 0; i < run.n; i++) {
    bool is_finite = fabsf(x[i]) <= FLT_MAX;
    bool outside = (x[i] > run.high) | (x[i] < run.low);
    nonfinite += !is_finite;
    zeros += x[i] == 0;
    saturated += is_finite & outside;
    underflow += is_finite & (x[i] != 0) & (value[i] == 0) & !outside;
    finite[i] = is_finite ? x[i] : 0;
    error[i] = is_finite ? x[i] - value[i] : 0;
  }
  all->nonfinite += nonfinite;
  all->zeros += zeros;
  all->saturated += saturated;
  all->underflow += underflow;
}

VECTORIZE static double sum_squares(const float *x, int n) {
  double lane[SQUARE_LANES] = {0};
  int i = 0;
  for (; i + SQUARE_LANES <= n; i += SQUARE_LANES) {
    for (int j = 0; j < SQUARE_LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
  }
  for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
  for (int width = SQUARE_LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

/* Replaces errors by |error| / |x|, 0 where x is 0 or has become 0. */
VECTORIZE static void relate(float *restrict error, const float *x, const float *value, int n) {
  for (int i = 0; i < n; i++) {
    float ratio = fabsf(error[i]) / fabsf(x[i]);
    error[i] = ((x[i] == 0) | (value[i] == 0)) ? 0 : ratio;
  }
}

VECTORIZE static void take_magnitudes(float *x, int n) {
  for (int i = 0; i < n; i++) x[i] = fabsf(x[i]);
}

static void raise_error(Comparison *all, float relative_error) {
  all->relative_error = (double)larger_or_nan((float)all->relative_error, relative_error);
}

/* `position` of the run's first element. */
static void compare_run(Comparison *all, Run run, int64_t position) {
  float finite[CHUNK], error[CHUNK];
  int64_t before = all->nonfinite;
  count_run(all, run, finite, error);
  if (before == 0 && all->nonfinite > 0) {
    int i = 0;
    while (fabsf(run.x[i]) <= FLT_MAX) i++;
    all->first_nonfinite = position + i;
  }
  all->sum += sum_floats(finite, run.n);
  all->square_sum += sum_squares(finite, run.n);
  all->error_square_sum += sum_squares(error, run.n);
  relate(error, finite, run.value, run.n);
  raise_error(all, max_floats(error, run.n));
  take_magnitudes(finite, run.n);
  all->absmax = fmax(all->absmax, (double)max_floats(finite, run.n));
}

/* Which scale is element i's; *left counts the elements from there on that are next to each other and have it. */
static int64_t scale_position(const CompareRule *rule, int64_t i, int64_t *left) {
  if (rule->tile_rows == 0) {
    *left = rule->blocksize - i % rule->blocksize;
    return i / rule->blocksize;
  }
  int64_t row = i / rule->columns, column = i % rule->columns, tile = column / rule->tile_columns;
  int64_t end = (tile + 1) * rule->tile_columns;
  *left = (end < rule->columns ? end : rule->columns) - column;
  return row / rule->tile_rows * divide_up(rule->columns, rule->tile_columns) + tile;
}

static void compare_chunk(const Compare *job, Comparison *all, int64_t start, int n) {
  float x_buffer[CHUNK], value_buffer[CHUNK];
  const float *x = load_floats(job->x->dtype, tensor_data(job->x), start, n, x_buffer), *value = x;
  if (job->values) value = load_floats(job->values->dtype, tensor_data(job->values), start, n, value_buffer);
  int done = 0;
  while (done < n) {
    Run run = {x + done, value + done, n - done, -INFINITY, INFINITY};
    if (job->scale) {
      int64_t left, position = scale_position(&job->rule, start + done, &left);
      if (run.n > left) run.n = (int)left;
      float scale = job->scale[position];
      run.low = job->rule.low * scale;
      run.high = job->rule.high * scale;
      for (int i = 0; job->codes && i < run.n; i++) value_buffer[done + i] *= scale;
    }
    compare_run(all, run, start + done);
    done += run.n;
  }
}

static void compare_slices(int64_t begin, int64_t end, const void *context) {
  const Compare *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    Comparison *all = &job->slice[slice];
    int64_t last = (slice + 1) * COMPARE_SLICE < job->count ? (slice + 1) * COMPARE_SLICE : job->count;
    *all = (Comparison){.count = last - slice * COMPARE_SLICE, .first_nonfinite = -1};
    for (int64_t start = slice * COMPARE_SLICE; start < last; start += CHUNK) {
      compare_chunk(job, all, start, chunk_length(last, start));
    }
  }
}

static void add_slice(Comparison *all, const Comparison *later) {
  if (all->first_nonfinite < 0) all->first_nonfinite = later->first_nonfinite;
  all->count += later->count;
  all->zeros += later->zeros;
  all->nonfinite += later->nonfinite;
  all->underflow += later->underflow;
  all->saturated += later->saturated;
  all->sum += later->sum;
  all->square_sum += later->square_sum;
  all->error_square_sum += later->error_square_sum;
  all->absmax = fmax(all->absmax, later->absmax);
  raise_error(all, (float)later->relative_error);
}

bool cpu_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule) {
  Compare job = {.x = x, .values = values, .rule = *rule, .count = tensor_count(x)};
  if (scale) job.scale = tensor_data(scale);
  job.codes = values && dtype_is_float8(values->dtype);
  int64_t slices = divide_up(job.count, COMPARE_SLICE);
  job.slice = host_allocate((size_t)(slices + 1) * sizeof *job.slice);
  if (!job.slice) return false;
  parallel_for(slices, COMPARE_SLICE, compare_slices, &job);
  Comparison all = {.first_nonfinite = -1};
  for (int64_t i = 0; i < slices; i++) add_slice(&all, &job.slice[i]);
  free(job.slice);
  *(Comparison *)tensor_data(row) = all;
  return true;
}
