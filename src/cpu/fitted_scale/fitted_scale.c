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

enum { MOST_LANES = 1024 };

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* What is known of a block's part before a scale is chosen. */
typedef struct PartFit {
  FitSums sums;
  double error[FIT_CANDIDATES_MOST];
} PartFit;

/* Long blocks, each in `parts` parts. */
typedef struct Parts {
  const Fit *job;
  PartFit *part;
  float (*candidate)[FIT_CANDIDATES_MOST]; /* scales, of each block */
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

VECTORIZE static void add_errors(double *restrict lane, const float *restrict x, const float *restrict value,
                                 float scale, int n) {
  for (int i = 0; i < n; i++) {
    double error = (double)(x[i] - value[i] * scale);
    lane[i] += error * error;
  }
}

static int64_t used_lanes(int64_t elements) { return smaller(divide_up(elements, FIT_LANES) * FIT_LANES, MOST_LANES); }

static void clear_lanes(double *lane, int64_t elements) {
  memset(lane, 0, (size_t)used_lanes(elements) * sizeof *lane);
}

/* As fit.h adds lanes. */
static double sum_of_lanes(double lane[MOST_LANES], int64_t elements) {
  double sum = 0;
  for (int first = 0; first < used_lanes(elements); first += FIT_LANES) {
    double *own = lane + first;
    for (int width = FIT_LANES / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; i++) own[i] += own[i + width];
    }
    sum = first == 0 ? own[0] : sum + own[0];
  }
  return sum;
}

/* --- parts: elements start … end - 1 of a block --- */

static FitSums sums_of_part(const Fit *job, const Block *block, int64_t start, int64_t end) {
  double squares[MOST_LANES], magnitudes[MOST_LANES];
  FitSums sums = {0, 0, 0};
  clear_lanes(squares, end - start);
  clear_lanes(magnitudes, end - start);
  for (int64_t i = start; i < end; i += CHUNK) {
    float buffer[CHUNK];
    int n = chunk_length(end, i), lane = (int)((i - start) % MOST_LANES);
    const float *x = load_of_block(job, block, i, n, buffer);
    uint32_t largest = largest_magnitude(x, n);
    if (largest > sums.largest) sums.largest = largest;
    if (job->rule->root_mean_square != 0) add_squares(squares + lane, x, n);
    if (job->rule->mean_magnitude != 0) add_magnitudes(magnitudes + lane, x, n);
  }
  if (!fit_is_summing(job->rule)) return sums;
  sums.squares = sum_of_lanes(squares, end - start);
  sums.magnitudes = sum_of_lanes(magnitudes, end - start);
  return sums;
}

VECTORIZE static void scale_values(float *restrict out, const float *restrict x, const BlockScaling *block, int n) {
  const BlockScaling scaling = *block;
  for (int i = 0; i < n; i++) out[i] = scaled_element(x[i], &scaling);
}

/* Σ (x - value)² with this scale. */
static double error_of_part(const Fit *job, const Block *block, int64_t start, int64_t end, float scale) {
  const BlockScaling scaling = scaling_with(&job->quantizer, scale);
  double squares[MOST_LANES];
  clear_lanes(squares, end - start);
  for (int64_t i = start; i < end; i += CHUNK) {
    float buffer[CHUNK], value[CHUNK];
    int n = chunk_length(end, i), lane = (int)((i - start) % MOST_LANES);
    const float *x = load_of_block(job, block, i, n, buffer);
    scale_values(value, x, &scaling, n);
    round_scaled(&job->quantizer, job->search, NULL, value, 0, n);
    add_errors(squares + lane, x, value, scale, n);
  }
  return sum_of_lanes(squares, end - start);
}

typedef void (*PartBody)(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end);

static void measure_part(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end) {
  all->part[number].sums = sums_of_part(all->job, block, start, end);
}

static void compare_part(const Parts *all, int64_t number, const Block *block, int64_t start, int64_t end) {
  const float *candidate = all->candidate[number / all->parts];
  for (int i = 0; candidate[0] == candidate[0] && i < all->job->rule->candidates; i++) {
    all->part[number].error[i] = error_of_part(all->job, block, start, end, candidate[i]);
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

static void find_candidates(const Parts *all, int64_t number) {
  const Fit *job = all->job;
  const Block block = block_at(job, number);
  const UpperScale upper = upper_of_fit(job, number);
  FitSums sums = {0, 0, 0};
  for (int64_t i = 0; i < all->parts; i++) sums = fit_sums_with(&sums, &all->part[number * all->parts + i].sums);
  uint32_t magnitude = fitted_magnitude(job->rule, &sums, block.rows * block.width);
  for (int i = 0; i == 0 || i < job->rule->candidates; i++) {
    all->candidate[number][i] = fitted_scale(job->rule, i, &job->quantizer.rule, &upper, magnitude);
  }
}

static float chosen_candidate(const Parts *all, int64_t number) {
  const PartFit *part = all->part + number * all->parts;
  float best = all->candidate[number][0];
  double least = 0;
  for (int i = 0; i < all->job->rule->candidates && best == best; i++) {
    double error = 0;
    for (int64_t k = 0; k < all->parts; k++) error += part[k].error[i];
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
  bool done = all.part && all.candidate;
  if (done) {
    parallel_for(parts, work, measure_parts, &all);
    for (int64_t i = 0; i < blocks; i++) find_candidates(&all, i);
    if (job->rule->candidates > 1) parallel_for(parts, work * job->rule->candidates, compare_parts, &all);
    for (int64_t i = 0; i < blocks; i++) job->scale[i] = chosen_candidate(&all, i);
  }
  free(all.part);
  free(all.candidate);
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
  if (quantizer->map) {
    job.search = search_of(quantizer->map, false);
    if (!job.search) return false;
  }
  const int64_t length = job.tile_rows * job.tile_columns;
  if (length > FIT_SHORT) return fit_long_blocks(&job, length, tensor_count(scale));
  fit_short_blocks(&job);
  return true;
}
