/* Quantization in small blocks, of x or of its Hadamard transform, in one way or in two: what the kernel takes. */
#include <string.h>

#include "cuda/measure.h"
#include "cuda/quantize/plan.h"
#include "quantize/narrow/fitted.h"

enum { LANES = 32, VECTOR = 16 };

/* Longer runs of rows are left to the kernels of pieces, unless those do not take the rest. */
enum { SHORT_RUN_BYTES = 128 };

/* A tile's sides as the kernel counts them, and how many lanes share one: below and beside one another. */
typedef struct Shape {
  int64_t rows, columns;
  int64_t below, beside;
} Shape;

static bool is_power_of_two(int64_t n) { return n > 0 && (n & (n - 1)) == 0; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* False if the kernel does not take such blocks. */
static bool shape_of(Shape *shape, const Tensor *x, const QuantizeWay *way) {
  const Quantizer *quantizer = &way->quantizer;
  int64_t columns = x->size[x->rank - 1], rows = tensor_count(x) / columns, width = VECTOR / dtype_size(x->dtype);
  *shape = (Shape){.rows = quantizer->tile_rows, .columns = quantizer->tile_columns, .below = 1, .beside = 1};
  if (quantizer->tile_rows == 0) {
    shape->rows = 1;
    shape->columns = quantizer->blocksize;
    if (columns % quantizer->blocksize != 0) return false;
  }
  /* A single row of tiles may as well be longer than the matrix. */
  if (shape->rows > 1 && shape->rows >= rows) {
    int64_t least = shape->rows;
    shape->rows = PATCH_ROWS;
    while (shape->rows < least) shape->rows *= 2;
  }
  if (shape->rows > 1) {
    if (!is_power_of_two(shape->rows) || shape->rows < PATCH_ROWS) return false;
    shape->below = shape->rows / PATCH_ROWS;
  }
  if (shape->columns > 1) {
    if (!is_power_of_two(shape->columns) || shape->columns < width) return false;
    shape->beside = shape->columns / width;
  }
  if (shape->rows == 1 && shape->columns == 1) return false;
  const HadamardRule *rule = &way->hadamard;
  if (rule->length > 0 && rule->down) shape->below = larger(shape->below, rule->length / PATCH_ROWS);
  if (rule->length > 0 && !rule->down) shape->beside = larger(shape->beside, rule->length / width);
  return true;
}

/* Lanes of a warp below one another for all ways; 0 if they can't be done together. */
static int lanes_below(const Tensor *x, const QuantizeWay *ways, int count) {
  int64_t below = 1, beside = 1, width = VECTOR / dtype_size(x->dtype);
  for (int i = 0; i < count; i++) {
    Shape shape;
    if (!shape_of(&shape, x, &ways[i])) return 0;
    below = larger(below, shape.below);
    beside = larger(beside, shape.beside);
  }
  if (below * beside > LANES) return 0;
  /* All that are not needed beside one another of narrow matrices. */
  while (LANES / below / 2 >= beside && LANES / below / 2 * width >= x->size[x->rank - 1]) below *= 2;
  return (int)below;
}

static bool takes_outputs(const Tensor *x, const QuantizeOutputs *outputs) {
  int64_t width = VECTOR / dtype_size(x->dtype);
  if (outputs->transposed) return false;
  if (outputs->codes && !is_aligned(tensor_data(outputs->codes), width)) return false;
  if (!outputs->values) return true;
  bool same = outputs->values->dtype == x->dtype || x->dtype == DTYPE_F32;
  return same && is_aligned(tensor_data(outputs->values), VECTOR);
}

static bool rounds_to_powers(const Quantizer *quantizer) {
  return quantizer->stochastic && quantizer->map && quantizer->map->powers.count > 0;
}

static bool takes(const Tensor *x, const QuantizeWay *way) {
  const Quantizer *quantizer = &way->quantizer;
  bool powers = rounds_to_powers(quantizer) && !way->outputs.codes;
  if (quantizer->map && quantizer->grid.bits == 0 && !powers) return false;
  if (quantizer->divide || quantizer->known_scale) return false;
  return way->upper != UPPER_ROW && takes_outputs(x, &way->outputs);
}

/* Whether one way of runs of rows is no more than pieces' kernels do. */
static bool is_for_pieces(const Tensor *x, const QuantizeWay *way) {
  const Quantizer *quantizer = &way->quantizer;
  return quantizer->tile_rows == 0 && !quantizer->stochastic && way->hadamard.length == 0 && way->upper == UPPER_NONE &&
         quantizer->blocksize * dtype_size(x->dtype) > SHORT_RUN_BYTES;
}

static bool describe(WayPlan *plan, const CudaDevice *device, const Tensor *x, const QuantizeWay *way) {
  Shape shape;
  const QuantizeOutputs *outputs = &way->outputs;
  int64_t columns = x->size[x->rank - 1];
  if (!shape_of(&shape, x, way)) return false;
  *plan = (WayPlan){.hadamard = way->hadamard,
                    .tile_rows = (int)shape.rows,
                    .tile_columns = (int)shape.columns,
                    .tiles_across = divide_up(columns, shape.columns)};
  if (!cuda_quantize_plan(&plan->quantize, device, &way->quantizer, tensor_count(x))) return false;
  cuda_set_grid(&plan->quantize);
  plan->sign = plan->quantize.map ? 0 : 0x80000000u;
  if (way->quantizer.live_random) plan->live_random = tensor_data(way->quantizer.live_random);
  if (outputs->codes) plan->quantize.codes = tensor_data(outputs->codes);
  if (outputs->scale) plan->quantize.scale = tensor_data(outputs->scale);
  if (outputs->values) {
    plan->quantize.values = tensor_data(outputs->values);
    plan->quantize.values_dtype = outputs->values->dtype;
  }
  return true;
}

static bool make_plan(WaysPlan *plan, const CudaDevice *device, const Tensor *x, const QuantizeWay *ways, int count) {
  int64_t columns = x->size[x->rank - 1];
  *plan = (WaysPlan){.x = tensor_data(x),
                     .dtype = x->dtype,
                     .rows = tensor_count(x) / columns,
                     .columns = columns,
                     .down = lanes_below(x, ways, count),
                     .count = count};
  for (int i = 0; i < count; i++) {
    if (!describe(&plan->way[i], device, x, &ways[i])) return false;
  }
  return true;
}

/* Scales that are fitted, of all ways, are found in patches, and so are those of ways for which a warp has too few lanes, as
 * for transforms of 64 along rows and columns, if no scale is above them. */
static bool has_kernel(const Tensor *x, const QuantizeWay *ways, int count) {
  const CudaDevice *device = cuda_tensor_device(x);
  const bool has_lanes = lanes_below(x, ways, count) > 0;
  WaysPlan plan;
  int fitted = 0, below_one = 0;
  for (int i = 0; i < count; i++) {
    fitted += fit_is_wanted(&ways[i].fit);
    below_one += ways[i].upper != UPPER_NONE;
  }
  if (fitted == 0 && has_lanes) return true;
  if (fitted > 0 && (fitted < count || rounds_to_powers(&ways[0].quantizer))) return false;
  if (below_one > 0 && !has_lanes) return false;
  return device && make_plan(&plan, device, x, ways, count) && quantizes_in_patches(&plan);
}

bool cuda_quantizes_ways(const Tensor *x, const QuantizeWay *ways, int count) {
  int64_t total = tensor_count(x);
  if (total == 0 || x->rank == 0 || (count == 1 && is_for_pieces(x, &ways[0]))) return false;
  if (x->size[x->rank - 1] * dtype_size(x->dtype) % VECTOR != 0 || !is_aligned(tensor_data(x), VECTOR)) return false;
  for (int i = 0; i < count; i++) {
    if (!takes(x, &ways[i]) || ways[i].quantizer.stochastic != ways[0].quantizer.stochastic) return false;
    if (rounds_to_powers(&ways[i].quantizer) != rounds_to_powers(&ways[0].quantizer)) return false;
  }
  return has_kernel(x, ways, count);
}

/* Where the largest magnitudes of ways with scales below one for all of x are to be: as x's writer noted them, or as they
 * will be measured. */
static bool plan_maxima(WaysPlan *plan, Maxima maxima[QUANTIZE_WAYS], const CudaDevice *device, const Tensor *x,
                        const QuantizeWay *ways, bool *measuring) {
  for (int i = 0; i < plan->count; i++) {
    WayPlan *way = &plan->way[i];
    if (ways[i].upper == UPPER_NONE) continue;
    way->measures = way->hadamard.length > 0 || !cuda_known_maxima(x, &maxima[i]);
    if (way->measures) {
      maxima[i].count = measure_ways_shape(device->launch, plan);
      if (!cuda_scratch(&maxima[i].words, device, maxima[i].count * (int64_t)sizeof *way->maxima)) return false;
      *measuring = true;
    }
    way->maxima = tensor_data(&maxima[i].words);
    way->maxima_count = maxima[i].count;
  }
  return true;
}

/* The pass before the quantization, if there is one, brings the sums of columns. */
static bool measure(WaysPlan *plan, Tensor *sum, const CudaDevice *device) {
  Tensor partials = {0};
  int64_t bytes = plan->groups * plan->columns * (int64_t)sizeof *plan->partials;
  if (sum && !cuda_scratch(&partials, device, bytes)) return false;
  plan->partials = sum ? tensor_data(&partials) : NULL;
  bool done = cuda_launched(device, launch_measure_ways(device->launch, plan), "absmax kernel") &&
              (!sum || cuda_finish_sum(device, sum, plan->partials, plan->groups, plan->columns));
  tensor_release(&partials);
  return done;
}

static bool sum_columns(Tensor *sum, const Tensor *x) {
  Tensor columns = tensor_as_transposed_matrix(x);
  return !sum || cuda_reduce(REDUCE_SUM, 0, sum, &columns);
}

static FittedWay describe_fit(const WayPlan *plan, const FitRule *rule) {
  const QuantizePlan *quantize = &plan->quantize;
  FittedWay fit = {.rule = *rule, .grid = fit_grid(&quantize->grid, quantize->rule.limit)};
  fit.bound = fit_bound(&quantize->grid, quantize->rule.limit);
  return fit;
}

static bool launch(CudaDevice *device, const WaysPlan *plan, const QuantizeWay *ways) {
  if (!fit_is_wanted(&ways->fit)) {
    return cuda_launched(device, launch_quantize_ways(device->launch, plan), "quantize kernel");
  }
  FittedWaysPlan fitted = {.ways = *plan};
  for (int i = 0; i < plan->count; i++) fitted.fit[i] = describe_fit(&plan->way[i], &ways[i].fit);
  return cuda_launched(device, launch_quantize_fitted(device->launch, &fitted), "quantize kernel");
}

bool cuda_quantize_ways(Tensor *column_sum, const Tensor *x, const QuantizeWay *ways, int count) {
  CudaDevice *device = cuda_tensor_device(x);
  WaysPlan plan;
  if (!device || !make_plan(&plan, device, x, ways, count)) return false;
  Maxima maxima[QUANTIZE_WAYS];
  memset(maxima, 0, sizeof maxima);
  bool measuring = false, known = false;
  bool done = (!column_sum || cuda_known_column_sums(device, column_sum, x, &known)) &&
              plan_maxima(&plan, maxima, device, x, ways, &measuring);
  Tensor *sum = known ? NULL : column_sum;
  done = done && (measuring ? measure(&plan, sum, device) : sum_columns(sum, x)) && launch(device, &plan, ways);
  for (int i = 0; i < count; i++) tensor_release(&maxima[i].words);
  return done;
}
