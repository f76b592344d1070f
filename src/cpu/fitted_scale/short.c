/* Fitted scales of short blocks. Many of them lie side by side, element i of all together, so that every loop is one over
 * blocks, and sums over elements add up vectors. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "cpu/fitted_scale/fit.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* Blocks side by side, and how many elements of each are rounded at once. */
enum { TOGETHER = 32, STEP = CHUNK / TOGETHER };

/* Sums of eights of each block. */
enum { EIGHTS = FIT_SHORT / FIT_EIGHT };
typedef double Sums[EIGHTS][TOGETHER];
typedef float Errors[EIGHTS][TOGETHER];

typedef struct Group {
  int64_t first; /* block */
  int blocks, length;
  int32_t count[TOGETHER];      /* of elements, at most `length` */
  float x[FIT_SHORT][TOGETHER]; /* 0 after a block's last, and beside the last block */
} Group;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* A row of n elements of whole tiles, the last perhaps narrower, to `to` and the blocks beside it. */
static void turn_row(Group *group, const float *x, int row, int block, int width, int n) {
  if (width == 1) {
    memcpy(&group->x[row][block], x, (size_t)n * sizeof *x);
    return;
  }
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

static int eights_of(int length) {
  int eights = 1;
  while (eights * FIT_EIGHT < length) eights *= 2;
  return eights;
}

/* The eights of each block, in the first row. */
VECTORIZE static void add_eights(Sums sum, int length) {
  for (int half = eights_of(length) / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      for (int k = 0; k < TOGETHER; k++) sum[i][k] += sum[i + half][k];
    }
  }
}

VECTORIZE static void add_error_eights(Errors sum, int length) {
  for (int half = eights_of(length) / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      for (int k = 0; k < TOGETHER; k++) sum[i][k] += sum[i + half][k];
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
    double *to = sum[i / FIT_EIGHT];
    for (int k = 0; k < TOGETHER; k++) to[k] += (double)x[i][k] * (double)x[i][k];
  }
}

VECTORIZE static void add_magnitudes(Sums sum, const float (*restrict x)[TOGETHER], int length) {
  for (int i = 0; i < length; i++) {
    double *to = sum[i / FIT_EIGHT];
    for (int k = 0; k < TOGETHER; k++) to[k] += fabs((double)x[i][k]);
  }
}

/* What counts in place of each block's absmax. */
static void find_magnitudes(const Fit *job, const Group *group, uint32_t magnitude[TOGETHER],
                            uint32_t largest[TOGETHER]) {
  measure(largest, group->x, group->length);
  memcpy(magnitude, largest, TOGETHER * sizeof *magnitude);
  if (!fit_is_summing(job->rule)) return;
  Sums squares, magnitudes;
  const size_t added = (size_t)eights_of(group->length) * sizeof *squares;
  memset(squares, 0, added);
  memset(magnitudes, 0, added);
  if (job->rule->root_mean_square != 0) {
    add_squares(squares, group->x, group->length);
    add_eights(squares, group->length);
  }
  if (job->rule->mean_magnitude != 0) {
    add_magnitudes(magnitudes, group->x, group->length);
    add_eights(magnitudes, group->length);
  }
  for (int k = 0; k < group->blocks; k++) {
    const FitSums sums = {squares[0][k], magnitudes[0][k], magnitude[k]};
    magnitude[k] = fitted_magnitude(job->rule, &sums, group->count[k]);
  }
}

/* --- scales --- */

VECTORIZE static void candidate_magnitudes(const FitRule *rule, int candidate, uint32_t *restrict out,
                                           const uint32_t *restrict magnitude) {
  for (int k = 0; k < TOGETHER; k++) out[k] = fitted_candidate(rule, candidate, magnitude[k]);
}

/* Of a candidate, or the only ones. `whole`: the upper scale of all blocks, where there is one for all. */
static void find_scales(const Fit *job, const Group *group, int candidate, const uint32_t magnitude[TOGETHER],
                        const UpperScale *whole, float scale[TOGETHER]) {
  const Quantizer *quantizer = &job->quantizer;
  if (quantizer->upper_each > 0) {
    memset(scale, 0, TOGETHER * sizeof *scale);
    for (int k = 0; k < group->blocks; k++) {
      const UpperScale upper = upper_of_fit(job, group->first + k);
      scale[k] = fitted_scale(job->rule, candidate, &quantizer->rule, &upper, magnitude[k]);
    }
    return;
  }
  uint32_t own[TOGETHER];
  float inverse[TOGETHER];
  candidate_magnitudes(job->rule, candidate, own, magnitude);
  scales_of_blocks(quantizer, whole, 0, own, scale, inverse, TOGETHER);
}

/* --- errors --- */

/* Times the unit of each block. */
typedef struct Scales {
  float scale[TOGETHER], inverse[TOGETHER];
  float cap[TOGETHER]; /* of magnitudes that a grid rounds */
} Scales;

/* Of magnitudes by a grid. */
VECTORIZE static void add_grid_errors(Errors sum, const Group *restrict group, const Scales *restrict scales,
                                      const FitGrid *of_format) {
  const FitGrid grid = *of_format;
  for (int first = 0; first < group->length; first += FIT_EIGHT) {
    float *restrict to = sum[first / FIT_EIGHT];
    const int end = first + FIT_EIGHT < group->length ? first + FIT_EIGHT : group->length;
    for (int i = first; i < end; i++) {
      for (int k = 0; k < TOGETHER; k++) {
        float x = fabsf(group->x[i][k]), inverse = scales->inverse[k], within = fit_smaller(x, scales->cap[k]);
        float error = fit_error(x, fit_rounded(&grid, within, inverse, inverse * grid.factor), scales->scale[k]);
        to[k] = fmaf(error, error, to[k]);
      }
    }
  }
}

VECTORIZE static void multiply(float (*restrict out)[TOGETHER], const float (*restrict x)[TOGETHER],
                               const float *restrict factor, float limit, int n) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < TOGETHER; k++) {
      out[i][k] = fit_larger(fit_smaller(x[i][k] * factor[k], limit), -limit);
    }
  }
}

/* Of elements from `start` on, by what they are scaled to. */
VECTORIZE static void add_pair_errors(Errors sum, const Group *restrict group, const float (*restrict scaled)[TOGETHER],
                                      const SearchPair (*restrict pair)[TOGETHER], const Scales *restrict scales,
                                      int start, int n) {
  for (int first = 0; first < n; first += FIT_EIGHT) {
    float *restrict to = sum[(start + first) / FIT_EIGHT];
    const int end = first + FIT_EIGHT < n ? first + FIT_EIGHT : n;
    for (int i = first; i < end; i++) {
      const float *x = group->x[start + i];
      for (int k = 0; k < TOGETHER; k++) {
        float error = fit_error(x[k], search_nearer(pair[i][k], scaled[i][k]), scales->scale[k]);
        error = start + i < group->count[k] ? error : 0.0f;
        to[k] = fmaf(error, error, to[k]);
      }
    }
  }
}

static void add_map_errors(const Fit *job, const Group *group, const Scales *scales, Errors sum) {
  const float limit = fit_smaller(job->quantizer.rule.limit, FLT_MAX);
  for (int start = 0; start < group->length; start += STEP) {
    float scaled[STEP][TOGETHER];
    SearchPair pair[STEP][TOGETHER];
    int n = (int)smaller(STEP, group->length - start);
    multiply(scaled, group->x + start, scales->inverse, limit, n);
    search_pairs(job->search, pair[0], scaled[0], n * TOGETHER);
    add_pair_errors(sum, group, scaled, pair, scales, start, n);
  }
}

/* Σ (x - value)² of every block with its scale, in the first row of the sums. */
static void find_errors(const Fit *job, const Group *group, const Scales *scales, Errors sum) {
  memset(sum, 0, (size_t)eights_of(group->length) * sizeof *sum);
  if (job->search) {
    add_map_errors(job, group, scales, sum);
  } else {
    add_grid_errors(sum, group, scales, &job->grid);
  }
  add_error_eights(sum, group->length);
}

/* Elements times the unit that each block has. */
static void set_units(Group *group, const uint32_t largest[TOGETHER], float unit[TOGETHER]) {
  bool usual = true;
  for (int k = 0; k < TOGETHER; k++) {
    unit[k] = fit_unit(largest[k]);
    usual &= unit[k] == 1.0f;
  }
  for (int i = 0; !usual && i < group->length; i++) {
    for (int k = 0; k < TOGETHER; k++) group->x[i][k] *= unit[k];
  }
}

static void set_scales(const Fit *job, const float scale[TOGETHER], const float unit[TOGETHER], Scales *scales) {
  for (int k = 0; k < TOGETHER; k++) {
    scales->scale[k] = scale[k] * unit[k];
    scales->inverse[k] = fit_inverse(scales->scale[k]);
    scales->cap[k] = job->grid.limit * scales->scale[k];
  }
}

/* The largest magnitude that a code stands for. */
static float largest_value(const Fit *job) {
  if (!job->search) return job->grid.limit;
  return fit_larger(-job->search->value[0], job->search->value[MAP_SIZE - 1]);
}

/* Whether some block may have less error than `least`. */
VECTORIZE static bool may_have_less(const Group *group, const uint32_t *restrict largest, const float *restrict unit,
                                    const Scales *restrict scales, float most, const float *restrict least) {
  int less = 0;
  for (int k = 0; k < group->blocks; k++) {
    less |= fit_may_have_less(float_from_bits(largest[k]) * unit[k], most, scales->scale[k], least[k]);
  }
  return less != 0;
}

/* The candidates with the least errors. */
static void choose_scales(const Fit *job, Group *group, const uint32_t magnitude[TOGETHER],
                          const uint32_t largest[TOGETHER], const UpperScale *whole, float best[TOGETHER]) {
  const float most = largest_value(job);
  float least[TOGETHER], unit[TOGETHER];
  set_units(group, largest, unit);
  for (int i = 0; i < job->rule->candidates; i++) {
    float scale[TOGETHER];
    Scales scales;
    Errors error;
    find_scales(job, group, i, magnitude, whole, scale);
    set_scales(job, scale, unit, &scales);
    if (i > 0 && !may_have_less(group, largest, unit, &scales, most, least)) continue;
    find_errors(job, group, &scales, error);
    for (int k = 0; k < group->blocks; k++) {
      if (unit[k] < 1 && is_too_large(job, largest[k], unit[k], scale[k])) error[0][k] = INFINITY;
      if (i > 0 && !(error[0][k] < least[k])) continue;
      best[k] = scale[k];
      least[k] = error[0][k];
    }
  }
}

static void fit_group(const Fit *job, Group *group) {
  uint32_t magnitude[TOGETHER], largest[TOGETHER];
  float scale[TOGETHER];
  const UpperScale whole = upper_of_fit(job, group->first);
  find_magnitudes(job, group, magnitude, largest);
  if (job->rule->candidates > 1) {
    choose_scales(job, group, magnitude, largest, &whole, scale);
  } else {
    find_scales(job, group, 0, magnitude, &whole, scale);
  }
  memcpy(job->scale + group->first, scale, (size_t)group->blocks * sizeof *scale);
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
