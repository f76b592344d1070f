/* Fitted scales. Of long blocks, threads share the parts: their statistics, and then the errors that candidates leave. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "cpu/cpu.h"
#include "cpu/fitted_scale/fit.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

enum { TREE = 32 }; /* of sums of eight lanes */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* What is known of a block's part before a scale is chosen. */
typedef struct PartFit {
  FitSums sums;
  float error[FIT_CANDIDATES_MOST];
} PartFit;

/* Long blocks, each in `parts` parts. */
typedef struct Parts {
  const Fit *job;
  PartFit *part;
  float (*candidate)[FIT_CANDIDATES_MOST]; /* scales, of each block */
  float *unit;                             /* of each block */
  uint32_t *largest;                       /* |x| of each block, as bits */
  int64_t parts;
} Parts;

/* A block as rows of neighbouring elements. */
typedef struct Block {
  int64_t first, step; /* of rows */
  int64_t rows, width;
} Block;

static Block block_at(const Fit *job, int64_t number) {
  int64_t row = number / job->tiles_across * job->tile_rows;
  int64_t column = number % job->tiles_across * job->tile_columns;
  return (Block){.first = row * job->columns + column,
                 .step = job->columns,
                 .rows = smaller(job->tile_rows, job->rows - row),
                 .width = smaller(job->tile_columns, job->columns - column)};
}

UpperScale upper_of_fit(const Fit *job, int64_t block) {
  const Quantizer *quantizer = &job->quantizer;
  if (!quantizer->upper) return no_upper_scale(&quantizer->rule);
  const float *absmax = tensor_data(quantizer->upper);
  return fitted_upper_scale(job->rule, &quantizer->rule,
                            absmax[quantizer->upper_each > 0 ? block / quantizer->upper_each : 0]);
}

/* Elements start … start + n - 1 of a block, at most CHUNK: in place, or in `buffer`. */
static const float *load_of_block(const Fit *job, const Block *block, int64_t start, int n, float buffer[CHUNK]) {
  int64_t row = start / block->width, column = start - row * block->width;
  for (int held = 0; held < n; row++, column = 0) {
    int count = (int)smaller(block->width - column, n - held);
    const float *x = load_floats(job->dtype, job->x, block->first + row * block->step + column, count, buffer + held);
    if (count == n) return x;
    if (x != buffer + held) memcpy(buffer + held, x, (size_t)count * sizeof *x);
    held += count;
  }
  return buffer;
}

/* --- sums over lanes --- */

VECTORIZE static void add_squares(double *restrict lane, const float *restrict x, int n) {
  for (int i = 0; i < n; i++) lane[i] += (double)x[i] * (double)x[i];
}

VECTORIZE static void add_magnitudes(double *restrict lane, const float *restrict x, int n) {
  for (int i = 0; i < n; i++) lane[i] += fabs((double)x[i]);
}

VECTORIZE static void add_errors(float *restrict lane, const float *restrict x, const float *restrict value,
                                 float scale, int n) {
  for (int i = 0; i < n; i++) {
    float error = fit_error(x[i], value[i], scale);
    lane[i] = fmaf(error, error, lane[i]);
  }
}

VECTORIZE static void add_grid_errors(float *restrict lane, const float *restrict x, const FitGrid *of_format,
                                      float scale, float inverse, int n) {
  const FitGrid grid = *of_format;
  const float cap = grid.limit * scale, larger_inverse = inverse * grid.factor;
  for (int i = 0; i < n; i++) {
    float magnitude = fabsf(x[i]), within = fit_smaller(magnitude, cap);
    float error = fit_error(magnitude, fit_rounded(&grid, within, inverse, larger_inverse), scale);
    lane[i] = fmaf(error, error, lane[i]);
  }
}

/* The two below as fit.h adds the lanes of a part, the first of which is then their sum. */
VECTORIZE static void add_lanes(double *restrict lane, double *restrict half, double *restrict sum) {
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i++) {
    for (int k = 0; k < 4; k++) half[4 * i + k] = lane[8 * i + k] + lane[8 * i + 4 + k];
  }
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i++) {
    sum[i] = (half[4 * i] + half[4 * i + 2]) + (half[4 * i + 1] + half[4 * i + 3]);
  }
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i += TREE) {
    for (int width = TREE / 2; width > 0; width /= 2) {
      for (int k = 0; k < width; k++) sum[i + k] += sum[i + width + k];
    }
    lane[0] = i == 0 ? sum[0] : lane[0] + sum[i];
  }
}

VECTORIZE static void add_error_lanes(float *restrict lane, float *restrict half, float *restrict sum) {
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i++) {
    for (int k = 0; k < 4; k++) half[4 * i + k] = lane[8 * i + k] + lane[8 * i + 4 + k];
  }
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i++) {
    sum[i] = (half[4 * i] + half[4 * i + 2]) + (half[4 * i + 1] + half[4 * i + 3]);
  }
  for (int i = 0; i < FIT_LANES / FIT_EIGHT; i += TREE) {
    for (int width = TREE / 2; width > 0; width /= 2) {
      for (int k = 0; k < width; k++) sum[i + k] += sum[i + width + k];
    }
    lane[0] = i == 0 ? sum[0] : lane[0] + sum[i];
  }
}

static double sum_of_lanes(double lane[FIT_LANES]) {
  double half[FIT_LANES / 2], sum[FIT_LANES / FIT_EIGHT];
  add_lanes(lane, half, sum);
  return lane[0];
}

static float sum_of_errors(float lane[FIT_LANES]) {
  float half[FIT_LANES / 2], sum[FIT_LANES / FIT_EIGHT];
  add_error_lanes(lane, half, sum);
  return lane[0];
}

/* All parts, lanes of them in a tree. */
static double sum_of_parts(double lane[FIT_LANES]) {
  for (int half = FIT_LANES / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  }
  return lane[0];
}

/* --- parts: elements start … end - 1 of a block --- */

static FitSums sums_of_part(const Fit *job, const Block *block, int64_t start, int64_t end) {
  const bool squaring = job->rule->root_mean_square != 0, adding = job->rule->mean_magnitude != 0;
  double squares[FIT_LANES], magnitudes[FIT_LANES];
  FitSums sums = {0, 0, 0};
  if (squaring) memset(squares, 0, sizeof squares);
  if (adding) memset(magnitudes, 0, sizeof magnitudes);
  for (int64_t i = start; i < end; i += CHUNK) {
    float buffer[CHUNK];
    int n = chunk_length(end, i), lane = (int)((i - start) % FIT_LANES);
    const float *x = load_of_block(job, block, i, n, buffer);
    uint32_t largest = largest_magnitude(x, n);
    if (largest > sums.largest) sums.largest = largest;
    if (squaring) add_squares(squares + lane, x, n);
    if (adding) add_magnitudes(magnitudes + lane, x, n);
  }
  if (squaring) sums.squares = sum_of_lanes(squares);
  if (adding) sums.magnitudes = sum_of_lanes(magnitudes);
  return sums;
}

VECTORIZE static void multiply(float *restrict out, const float *restrict x, float factor, float limit, int n) {
  for (int i = 0; i < n; i++) out[i] = fit_larger(fit_smaller(x[i] * factor, limit), -limit);
}

/* Σ (x - value)² with this scale, times the square of the unit. */
static float error_of_part(const Fit *job, const Block *block, int64_t start, int64_t end, float scale, float unit) {
  const float limit = fit_smaller(job->quantizer.rule.limit, FLT_MAX), inverse = fit_inverse(scale * unit);
  float squares[FIT_LANES] = {0};
  for (int64_t i = start; i < end; i += CHUNK) {
    float buffer[CHUNK], value[CHUNK], in_units[CHUNK];
    int n = chunk_length(end, i), lane = (int)((i - start) % FIT_LANES);
    const float *x = load_of_block(job, block, i, n, buffer);
    if (unit != 1.0f) {
      multiply(in_units, x, unit, FLT_MAX, n);
      x = in_units;
    }
    if (!job->search) {
      add_grid_errors(squares + lane, x, &job->grid, scale * unit, inverse, n);
      continue;
    }
    multiply(value, x, inverse, limit, n);
    round_scaled(&job->quantizer, job->search, NULL, value, 0, n);
    add_errors(squares + lane, x, value, scale * unit, n);
  }
  return sum_of_errors(squares);
}

typedef void (*PartBody)(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end);

static void measure_part(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end) {
  all->part[number].sums = sums_of_part(all->job, block, start, end);
}

static void compare_part(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end) {
  const float *candidate = all->candidate[number / all->parts], unit = all->unit[number / all->parts];
  for (int i = 0; candidate[0] == candidate[0] && i < all->job->rule->candidates; i++) {
    all->part[number].error[i] = error_of_part(all->job, block, start, end, candidate[i], unit);
  }
}

static void for_parts(const Parts *all, int64_t begin, int64_t end, PartBody body) {
  for (int64_t number = begin; number < end; number++) {
    const Block block = block_at(all->job, number / all->parts);
    const int64_t start = number % all->parts * FIT_PART, stop = smaller(start + FIT_PART, block.rows * block.width);
    if (start < stop) body(all, number, &block, start, stop);
  }
}

static void measure_parts(int64_t begin, int64_t end, const void *context) {
  for_parts(context, begin, end, measure_part);
}

static void compare_parts(int64_t begin, int64_t end, const void *context) {
  for_parts(context, begin, end, compare_part);
}

static FitSums sums_of_block(const Parts *all, const PartFit *part) {
  if (all->parts == 1) return part->sums;
  FitSums sums = {0, 0, 0};
  double squares[FIT_LANES] = {0}, magnitudes[FIT_LANES] = {0};
  for (int64_t i = 0; i < all->parts; i++) {
    if (part[i].sums.largest > sums.largest) sums.largest = part[i].sums.largest;
    squares[i % FIT_LANES] += part[i].sums.squares;
    magnitudes[i % FIT_LANES] += part[i].sums.magnitudes;
  }
  sums.squares = sum_of_parts(squares);
  sums.magnitudes = sum_of_parts(magnitudes);
  return sums;
}

static void find_candidates(const Parts *all, int64_t number) {
  const Fit *job = all->job;
  const Block block = block_at(job, number);
  const UpperScale upper = upper_of_fit(job, number);
  const FitSums sums = sums_of_block(all, all->part + number * all->parts);
  uint32_t magnitude = fitted_magnitude(job->rule, &sums, block.rows * block.width);
  all->unit[number] = fit_unit(sums.largest);
  all->largest[number] = sums.largest;
  for (int i = 0; i == 0 || i < job->rule->candidates; i++) {
    all->candidate[number][i] = fitted_scale(job->rule, i, &job->quantizer.rule, &upper, magnitude);
  }
}

static double error_of_block(const Parts *all, const PartFit *part, int candidate) {
  if (all->parts == 1) return part->error[candidate];
  double error[FIT_LANES] = {0};
  for (int64_t i = 0; i < all->parts; i++) error[i % FIT_LANES] += (double)part[i].error[candidate];
  return sum_of_parts(error);
}

static float chosen_candidate(const Parts *all, int64_t number) {
  float best = all->candidate[number][0];
  double least = 0;
  for (int i = 0; i < all->job->rule->candidates && best == best; i++) {
    double error = error_of_block(all, all->part + number * all->parts, i);
    if (all->unit[number] < 1 &&
        is_too_large(all->job, all->largest[number], all->unit[number], all->candidate[number][i]))
      error = INFINITY;
    if (i > 0 && !(error < least)) continue;
    best = all->candidate[number][i];
    least = error;
  }
  return best;
}

static bool fit_long_blocks(const Fit *job, int64_t length, int64_t blocks) {
  Parts all = {.job = job, .parts = divide_up(length, FIT_PART)};
  const int64_t parts = blocks * all.parts, work = smaller(length, FIT_PART);
  all.part = host_allocate_zeroed((size_t)parts, sizeof *all.part);
  all.candidate = host_allocate((size_t)blocks * sizeof *all.candidate);
  all.unit = host_allocate((size_t)blocks * sizeof *all.unit);
  all.largest = host_allocate((size_t)blocks * sizeof *all.largest);
  bool done = all.part && all.candidate && all.unit && all.largest;
  if (done) {
    parallel_for(parts, work, measure_parts, &all);
    for (int64_t i = 0; i < blocks; i++) find_candidates(&all, i);
    if (job->rule->candidates > 1) parallel_for(parts, work * job->rule->candidates, compare_parts, &all);
    for (int64_t i = 0; i < blocks; i++) job->scale[i] = chosen_candidate(&all, i);
  }
  free(all.part);
  free(all.candidate);
  free(all.unit);
  free(all.largest);
  return done;
}

bool cpu_fitted_scale(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit) {
  const int64_t count = tensor_count(x), columns = tensor_as_matrix(x).size[1];
  Fit job = {.rule = fit, .quantizer = *quantizer, .dtype = x->dtype, .x = tensor_data(x), .scale = tensor_data(scale)};
  job.quantizer.stochastic = false;
  if (count == 0) return cpu_fill(scale, number_of(0));
  bool in_tiles = quantizer->tile_rows > 0;
  job.columns = in_tiles ? columns : count;
  job.rows = count / job.columns;
  job.tile_rows = in_tiles ? quantizer->tile_rows : 1;
  job.tile_columns = in_tiles ? quantizer->tile_columns : smaller(quantizer->blocksize, count);
  job.tiles_across = divide_up(job.columns, job.tile_columns);
  FormatGrid grid;
  float limit;
  if (grid_of(quantizer, &grid, &limit)) {
    job.grid = fit_grid(&grid, limit);
  } else {
    job.search = search_of(quantizer->map, false);
    if (!job.search) return false;
  }
  const int64_t length = job.tile_rows * job.tile_columns;
  if (length > FIT_SHORT) return fit_long_blocks(&job, length, tensor_count(scale));
  fit_short_blocks(&job);
  return true;
}
