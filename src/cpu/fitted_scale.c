/* Fitted scales: a block's statistics, and then the errors that its candidates leave. */
#include "core/formats/fit.h"

#include <float.h>
#include <string.h>

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

/* The sums of lanes so far, of the part that is under way, and of those before it. */
typedef struct Lanes {
  double sum;
  int lanes;
  double lane[MOST_LANES]; /* the first `lanes` of them */
} Lanes;

static void start_lanes(Lanes *all, int lanes) {
  all->sum = 0;
  all->lanes = lanes;
  for (int i = 0; i < lanes; i++) all->lane[i] = 0;
}

static void end_part(Lanes *all) {
  double sum = 0;
  for (int first = 0; first < all->lanes; first += WARP) {
    double *lane = all->lane + first;
    for (int width = WARP / 2; width > 0; width /= 2) {
      for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    }
    sum = first == 0 ? lane[0] : sum + lane[0];
  }
  sum += all->sum;
  start_lanes(all, all->lanes);
  all->sum = sum;
}

/* Elements from `position` of a block on, all of one part. */
static void add_to_lanes(Lanes *all, const double *value, int n, int64_t position) {
  for (int i = 0; i < n; i++) all->lane[(position + i) & (all->lanes - 1)] += value[i];
}

/* What a walk over a block's elements adds up. */
typedef struct Walk {
  const Fit *job;
  BlockScaling scaling; /* of errors */
  Lanes first, second;  /* squares and magnitudes, or squares of errors */
  uint32_t largest;
} Walk;

typedef void (*Visit)(Walk *walk, const float *x, int n, int64_t position);

/* Calls visit(x, n, position) for all elements, of one part each time. */
static void walk_part(Walk *walk, const Part *part, Visit visit) {
  const Fit *job = walk->job;
  const int64_t count = part->rows * part->width;
  float buffer[CHUNK], x[CHUNK];
  int64_t position = 0;
  int held = 0;
  start_lanes(&walk->first, job->lanes);
  start_lanes(&walk->second, job->lanes);
  for (int64_t row = 0; row < part->rows; row++) {
    for (int64_t start = 0; start < part->width;) {
      int64_t room = smaller(CHUNK - held, FIT_PART - position % FIT_PART);
      int n = (int)smaller(part->width - start, room);
      const float *run = load_floats(job->dtype, job->x, part->first + row * part->step + start, n, buffer);
      memcpy(x + held, run, (size_t)n * sizeof *x);
      held += n;
      start += n;
      position += n;
      bool ends = position % FIT_PART == 0 || position == count;
      if (held < CHUNK && !ends) continue;
      visit(walk, x, held, position - held);
      held = 0;
      if (!ends) continue;
      end_part(&walk->first);
      end_part(&walk->second);
    }
  }
}

static void visit_magnitudes(Walk *walk, const float *x, int n, int64_t position) {
  double squares[CHUNK], magnitudes[CHUNK];
  uint32_t largest = largest_magnitude(x, n);
  if (largest > walk->largest) walk->largest = largest;
  for (int i = 0; i < n; i++) {
    squares[i] = (double)x[i] * (double)x[i];
    magnitudes[i] = fabs((double)x[i]);
  }
  add_to_lanes(&walk->first, squares, n, position);
  add_to_lanes(&walk->second, magnitudes, n, position);
}

static void visit_errors(Walk *walk, const float *x, int n, int64_t position) {
  const Fit *job = walk->job;
  float values[CHUNK];
  double squares[CHUNK];
  uint8_t codes[CHUNK];
  for (int i = 0; i < n; i++) values[i] = scaled_element(x[i], &walk->scaling);
  encode_scaled(&job->quantizer, job->search, codes, values, 0, n);
  decode_scaled(&job->quantizer, values, codes, walk->scaling.scale, n);
  for (int i = 0; i < n; i++) {
    double error = (double)(x[i] - values[i]);
    squares[i] = error * error;
  }
  add_to_lanes(&walk->first, squares, n, position);
}

static FitSums measure(const Fit *job, const Part *part) {
  Walk walk;
  walk.job = job;
  walk.largest = 0;
  walk_part(&walk, part, visit_magnitudes);
  return (FitSums){walk.first.sum, walk.second.sum, walk.largest};
}

/* Σ (x - value)² with this scale. */
static double error_of(const Fit *job, const Part *part, float scale) {
  Walk walk;
  walk.job = job;
  walk.scaling = scaling_with(&job->quantizer, scale);
  walk_part(&walk, part, visit_errors);
  return walk.first.sum;
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
