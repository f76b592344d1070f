/* Fitted scales of short blocks. Many of them lie side by side, element i of all together, so that every loop is one over
 * blocks, and sums over elements add up vectors. */
#include <math.h>
#include <string.h>

#include "cpu/fitted_scale/fit.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* Blocks side by side, and how many elements of each are rounded at once. */
enum { TOGETHER = 32, STEP = CHUNK / TOGETHER };

typedef double Sums[FIT_LANES][TOGETHER];

typedef struct Group {
  int64_t first; /* block */
  int blocks, length;
  int32_t count[TOGETHER];      /* of elements, at most `length` */
  float x[FIT_SHORT][TOGETHER]; /* 0 after a block's last, and beside the last block */
} Group;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* A row of n elements of whole tiles, the last perhaps narrower, to `to` and the blocks beside it. */
static void turn_row(Group *group, const float *x, int row, int block, int width, int n) {
  for (int first = 0; first < n; first += width, block++) {
    int own = (int)smaller(width, n - first);
    float *to = &group->x[row * own][block];
    for (int i = 0; i < own; i++) to[i * TOGETHER] = x[first + i];
  }
}

static void load_group(const Fit *job, int64_t number, Group *group) {
  const int64_t groups_across = divide_up(job->tiles_across, TOGETHER);
  const int64_t down = number / groups_across, tile = number % groups_across * TOGETHER;
  const int64_t row = down * job->tile_rows, column = tile * job->tile_columns;
  const int width = (int)job->tile_columns, rows = (int)smaller(job->tile_rows, job->rows - row);
  const int columns = (int)smaller((int64_t)width * TOGETHER, job->columns - column);
  group->first = down * job->tiles_across + tile;
  group->blocks = (int)divide_up(columns, width);
  group->length = rows * (int)smaller(width, columns);
  for (int i = 0; i < TOGETHER; i++) {
    int64_t own = smaller(width, columns - (int64_t)i * width);
    group->count[i] = own > 0 ? rows * (int)own : 0;
  }
  if (columns < width * TOGETHER) memset(group->x, 0, (size_t)group->length * sizeof *group->x);
  const int together = CHUNK / width;
  for (int i = 0; i < rows; i++) {
    for (int block = 0; block < group->blocks; block += together) {
      float buffer[CHUNK];
      int start = block * width, n = (int)smaller((int64_t)together * width, columns - start);
      const float *x = load_floats(job->dtype, job->x, (row + i) * job->columns + column + start, n, buffer);
      turn_row(group, x, i, block, width, n);
    }
  }
}

/* The lanes of each block, of which the first `length` have an element, as fit.h adds them: in lane 0. */
VECTORIZE static void add_lanes(Sums sum, int length) {
  for (int width = length > FIT_LANES / 2 ? FIT_LANES / 2 : FIT_LANES / 4; width > 0; width /= 2) {
    for (int i = 0; i < width; i++) {
      for (int k = 0; k < TOGETHER; k++) sum[i][k] += sum[i + width][k];
    }
  }
}

VECTORIZE static void measure(uint32_t *restrict largest, const float (*restrict x)[TOGETHER], int length) {
  for (int k = 0; k < TOGETHER; k++) largest[k] = 0;
  for (int i = 0; i < length; i++) {
    for (int k = 0; k < TOGETHER; k++) {
      uint32_t magnitude = float_to_bits(x[i][k]) & 0x7FFFFFFFu;
      largest[k] = magnitude > largest[k] ? magnitude : largest[k];
    }
  }
}

VECTORIZE static void add_squares(Sums sum, const float (*restrict x)[TOGETHER], int length) {
  for (int i = 0; i < length; i++) {
    double *to = sum[i % FIT_LANES];
    for (int k = 0; k < TOGETHER; k++) to[k] += (double)x[i][k] * (double)x[i][k];
  }
}

VECTORIZE static void add_magnitudes(Sums sum, const float (*restrict x)[TOGETHER], int length) {
  for (int i = 0; i < length; i++) {
    double *to = sum[i % FIT_LANES];
    for (int k = 0; k < TOGETHER; k++) to[k] += fabs((double)x[i][k]);
  }
}

/* What counts in place of each block's absmax. */
static void find_magnitudes(const Fit *job, const Group *group, uint32_t magnitude[TOGETHER]) {
  measure(magnitude, group->x, group->length);
  if (!fit_is_summing(job->rule)) return;
  Sums squares = {{0}}, magnitudes = {{0}};
  if (job->rule->root_mean_square != 0) {
    add_squares(squares, group->x, group->length);
    add_lanes(squares, group->length);
  }
  if (job->rule->mean_magnitude != 0) {
    add_magnitudes(magnitudes, group->x, group->length);
    add_lanes(magnitudes, group->length);
  }
  for (int k = 0; k < group->blocks; k++) {
    const FitSums sums = {squares[0][k], magnitudes[0][k], magnitude[k]};
    magnitude[k] = fitted_magnitude(job->rule, &sums, group->count[k]);
  }
}

/* --- errors --- */

/* The inverse is 0 where elements count as 0. */
typedef struct Scales {
  float scale[TOGETHER], inverse[TOGETHER], limit;
  bool divide; /* whether any block's elements are divided */
} Scales;

static void set_scales(Scales *scales, const Fit *job, int blocks) {
  scales->divide = false;
  scales->limit = job->quantizer.rule.limit;
  for (int k = 0; k < TOGETHER; k++) {
    const BlockScaling scaling = scaling_with(&job->quantizer, k < blocks ? scales->scale[k] : 0);
    scales->inverse[k] = scaling.empty ? 0.0f : scaling.inverse;
    scales->divide |= scaling.divide && !scaling.empty;
  }
}

/* As scaled_element. */
VECTORIZE static void multiply(float (*restrict out)[TOGETHER], const float (*restrict x)[TOGETHER],
                               const Scales *restrict scales, int n) {
  const float limit = scales->limit;
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < TOGETHER; k++) {
      float scaled = scales->inverse[k] == 0 ? 0.0f : x[i][k] * scales->inverse[k];
      scaled = scaled > limit ? limit : scaled;
      out[i][k] = scaled < -limit ? -limit : scaled;
    }
  }
}

static void divide(float (*out)[TOGETHER], const float (*x)[TOGETHER], const Scales *scales, const Fit *job, int n) {
  for (int k = 0; k < TOGETHER; k++) {
    if (scales->inverse[k] == 0) continue;
    const BlockScaling scaling = scaling_with(&job->quantizer, scales->scale[k]);
    for (int i = 0; i < n; i++) out[i][k] = scaled_element(x[i][k], &scaling);
  }
}

/* Of elements from `first` on. */
VECTORIZE static void add_errors(Sums sum, const Group *restrict group, const float (*restrict value)[TOGETHER],
                                 const float *restrict scale, int first, int n) {
  for (int i = 0; i < n; i++) {
    double *to = sum[(first + i) % FIT_LANES];
    const float *x = group->x[first + i];
    for (int k = 0; k < TOGETHER; k++) {
      float error = x[k] - value[i][k] * scale[k];
      error = first + i < group->count[k] ? error : 0.0f;
      to[k] += (double)error * (double)error;
    }
  }
}

/* Σ (x - value)² of every block with its scale, in the first row of the sums. */
static void find_errors(const Fit *job, const Group *group, Scales *scales, Sums sum) {
  set_scales(scales, job, group->blocks);
  memset(sum, 0, sizeof(Sums));
  for (int first = 0; first < group->length; first += STEP) {
    float value[STEP][TOGETHER];
    int n = (int)smaller(STEP, group->length - first);
    multiply(value, group->x + first, scales, n);
    if (scales->divide) divide(value, group->x + first, scales, job, n);
    round_scaled(&job->quantizer, job->search, NULL, value[0], 0, n * TOGETHER);
    add_errors(sum, group, value, scales->scale, first, n);
  }
  add_lanes(sum, group->length);
}

static void fit_group(const Fit *job, const Group *group) {
  const ScaleRule *rule = &job->quantizer.rule;
  uint32_t magnitude[TOGETHER];
  UpperScale upper[TOGETHER];
  double least[TOGETHER];
  float best[TOGETHER];
  find_magnitudes(job, group, magnitude);
  for (int k = 0; k < group->blocks; k++) upper[k] = upper_of_fit(job, group->first + k);
  for (int i = 0; i == 0 || i < job->rule->candidates; i++) {
    Scales scales = {0};
    Sums error;
    for (int k = 0; k < group->blocks; k++) scales.scale[k] = fitted_scale(job->rule, i, rule, &upper[k], magnitude[k]);
    if (job->rule->candidates > 1) find_errors(job, group, &scales, error);
    for (int k = 0; k < group->blocks; k++) {
      if (i > 0 && !(error[0][k] < least[k])) continue;
      best[k] = scales.scale[k];
      least[k] = job->rule->candidates > 1 ? error[0][k] : 0;
    }
  }
  memcpy(job->scale + group->first, best, (size_t)group->blocks * sizeof *best);
}

static void fit_groups(int64_t begin, int64_t end, const void *context) {
  const Fit *job = context;
  Group group;
  for (int64_t number = begin; number < end; number++) {
    load_group(job, number, &group);
    fit_group(job, &group);
  }
}

void fit_short_blocks(const Fit *job) {
  int64_t groups = divide_up(job->rows, job->tile_rows) * divide_up(job->tiles_across, TOGETHER);
  int64_t length = job->tile_rows * job->tile_columns;
  parallel_for(groups, length * TOGETHER * (1 + job->rule->candidates), fit_groups, job);
}
