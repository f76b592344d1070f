/* Fitted scales: a block's statistics, and then the errors that its candidates leave. */
#include "core/formats/fit.h"

#include <float.h>

#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/quantize/codes.h"
#include "cpu/vectors.h"

enum { MOST_LANES = 1024, WARP = 32 };

typedef struct Fit {
  const FitRule *rule;
  Quantizer quantizer; /* to nearest */
  const Search *search;
  DType dtype;
  const void *x;
  float *scale;
  int64_t count, columns, tiles_across;
  int lanes;
} Fit;

/* A block as rows of neighbouring elements. */
typedef struct Part {
  int64_t first, step; /* of rows */
  int64_t rows, width;
} Part;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static Part part_at(const Fit *job, int64_t block) {
  const Quantizer *quantizer = &job->quantizer;
  if (quantizer->tile_rows == 0) {
    int64_t first = block * quantizer->blocksize;
    return (Part){.first = first, .rows = 1, .width = smaller(quantizer->blocksize, job->count - first)};
  }
  int64_t row = block / job->tiles_across * quantizer->tile_rows;
  int64_t column = block % job->tiles_across * quantizer->tile_columns;
  return (Part){.first = row * job->columns + column,
                .step = job->columns,
                .rows = smaller(quantizer->tile_rows, job->count / job->columns - row),
                .width = smaller(quantizer->tile_columns, job->columns - column)};
}

static double sum_of_lanes(double *lane, int lanes) {
  double sum = 0;
  for (int first = 0; first < lanes; first += WARP) {
    for (int width = WARP / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; i++) lane[first + i] += lane[first + i + width];
    }
    sum = first == 0 ? lane[first] : sum + lane[first];
  }
  return sum;
}

/* n elements from element `position` of a block on. */
static void add_magnitudes(const Fit *job, const float *x, int n, int64_t position, double *squares,
                           double *magnitudes) {
  for (int i = 0; i < n; i++) {
    int lane = (int)((position + i) & (job->lanes - 1));
    squares[lane] += (double)x[i] * (double)x[i];
    magnitudes[lane] += fabs((double)x[i]);
  }
}

static FitSums measure(const Fit *job, const Part *part) {
  bool summing = job->rule->root_mean_square != 0 || job->rule->mean_magnitude != 0;
  double squares[MOST_LANES] = {0}, magnitudes[MOST_LANES] = {0};
  float buffer[CHUNK];
  FitSums sums = {0};
  for (int64_t row = 0; row < part->rows; row++) {
    for (int64_t start = 0; start < part->width; start += CHUNK) {
      int n = chunk_length(part->width, start);
      const float *x = load_floats(job->dtype, job->x, part->first + row * part->step + start, n, buffer);
      uint32_t largest = largest_magnitude(x, n);
      if (largest > sums.largest) sums.largest = largest;
      if (summing) add_magnitudes(job, x, n, row * part->width + start, squares, magnitudes);
    }
  }
  if (!summing) return sums;
  sums.squares = sum_of_lanes(squares, job->lanes);
  sums.magnitudes = sum_of_lanes(magnitudes, job->lanes);
  return sums;
}

/* Σ (x - value)² with this scale. */
static double error_of(const Fit *job, const Part *part, float scale) {
  const BlockScaling scaling = scaling_with(&job->quantizer, scale);
  double squares[MOST_LANES] = {0};
  float buffer[CHUNK], values[CHUNK];
  uint8_t codes[CHUNK];
  for (int64_t row = 0; row < part->rows; row++) {
    for (int64_t start = 0; start < part->width; start += CHUNK) {
      int n = chunk_length(part->width, start);
      const float *x = load_floats(job->dtype, job->x, part->first + row * part->step + start, n, buffer);
      for (int i = 0; i < n; i++) values[i] = scaled_element(x[i], &scaling);
      encode_scaled(&job->quantizer, job->search, codes, values, 0, n);
      decode_scaled(&job->quantizer, values, codes, scale, n);
      for (int i = 0; i < n; i++) {
        int lane = (int)((row * part->width + start + i) & (job->lanes - 1));
        double error = (double)(x[i] - values[i]);
        squares[lane] += error * error;
      }
    }
  }
  return sum_of_lanes(squares, job->lanes);
}

static UpperScale upper_at(const Fit *job, int64_t block) {
  const Quantizer *quantizer = &job->quantizer;
  if (!quantizer->upper) return no_upper_scale(&quantizer->rule);
  const float *absmax = tensor_data(quantizer->upper);
  return fitted_upper_scale(job->rule, &quantizer->rule,
                            absmax[quantizer->upper_each > 0 ? block / quantizer->upper_each : 0]);
}

static void fit_blocks(int64_t begin, int64_t end, const void *context) {
  const Fit *job = context;
  const ScaleRule *rule = &job->quantizer.rule;
  for (int64_t block = begin; block < end; block++) {
    const Part part = part_at(job, block);
    const FitSums sums = measure(job, &part);
    const UpperScale upper = upper_at(job, block);
    const uint32_t magnitude = fitted_magnitude(job->rule, &sums, part.rows * part.width);
    float best = fitted_scale(job->rule, 0, rule, &upper, magnitude);
    double least = job->rule->candidates > 1 && best == best ? error_of(job, &part, best) : 0;
    for (int i = 1; best == best && i < job->rule->candidates; i++) {
      float scale = fitted_scale(job->rule, i, rule, &upper, magnitude);
      double error = error_of(job, &part, scale);
      if (error < least) {
        best = scale;
        least = error;
      }
    }
    job->scale[block] = best;
  }
}

bool cpu_fitted_scale(Tensor *scale, const Tensor *x, const Quantizer *quantizer, const FitRule *fit) {
  Fit job = {.rule = fit,
             .quantizer = *quantizer,
             .dtype = x->dtype,
             .x = tensor_data(x),
             .scale = tensor_data(scale),
             .count = tensor_count(x),
             .columns = tensor_as_matrix(x).size[1]};
  job.quantizer.stochastic = false;
  if (job.count == 0) return cpu_fill(scale, number_of(0));
  int64_t length = smaller(quantizer->blocksize, job.count);
  if (quantizer->tile_rows > 0) {
    length = quantizer->tile_rows * quantizer->tile_columns;
    job.tiles_across = divide_up(job.columns, quantizer->tile_columns);
  }
  job.lanes = fit_lanes(length);
  if (quantizer->map) {
    job.search = search_of(quantizer->map, false);
    if (!job.search) return false;
  }
  parallel_for(tensor_count(scale), length * (1 + fit->candidates), fit_blocks, &job);
  return true;
}
