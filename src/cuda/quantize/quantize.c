/* Quantization: chooses between the kernels for small tensors, for transposed codes and for the rest. */
#include "cuda/measure.h"
#include "cuda/quantize/job.h"
#include "cuda/quantize/tiles.h"

bool cuda_quantize_plan(QuantizePlan *plan, const CudaDevice *device, const Quantizer *quantizer, int64_t count) {
  *plan = (QuantizePlan){
      .format = quantizer->format,
      .count = count,
      .blocksize = quantizer->blocksize < count ? quantizer->blocksize : count,
      .grid = quantizer->grid,
      .powers = quantizer->stochastic && quantizer->map ? quantizer->map->powers : (PowersOfTwo){0},
      .rule = quantizer->rule,
      .upper = quantizer->upper ? tensor_data(quantizer->upper) : NULL,
      .upper_each = quantizer->upper_each,
      .divide = quantizer->map && quantizer->divide,
      .stochastic = quantizer->stochastic,
      .random = quantizer->random,
  };
  if (!quantizer->map) return true;
  plan->map = cuda_map_table(device, quantizer->map);
  return plan->map != NULL;
}

void cuda_set_grid(QuantizePlan *plan) {
  if (plan->powers.count > 0) {
    float largest = powers_largest(&plan->powers);
    plan->grid.exponent = plan->powers.exponent;
    plan->rule.limit = plan->rule.limit < largest ? plan->rule.limit : largest;
  }
  if (plan->map) return;
  bool e4m3 = plan->format == DTYPE_E4M3;
  plan->grid = e4m3 ? e4m3_grid() : e5m2_grid();
  plan->rule.limit = e4m3 ? E4M3_LARGEST : E5M2_LARGEST;
}

bool cuda_transpose_plan(TransposePlan *plan, const CudaDevice *device, const QuantizeOutputs *outputs, const Tensor *x,
                         const Quantizer *quantizer) {
  int64_t count = tensor_count(x), columns = x->size[x->rank - 1];
  *plan = (TransposePlan){.rows = count / columns, .columns = columns};
  if (!cuda_quantize_plan(&plan->quantize, device, quantizer, count)) return false;
  plan->quantize.x = tensor_data(x);
  plan->quantize.dtype = x->dtype;
  if (outputs->codes) plan->quantize.codes = tensor_data(outputs->codes);
  if (outputs->transposed) plan->transposed = tensor_data(outputs->transposed);
  return true;
}

/* Whether no scaled number is beyond what a map's look-up is for. */
static bool is_within_look_up(const Quantizer *quantizer) {
  return !isinf(quantizer->rule.limit) || !scale_may_saturate(&quantizer->rule);
}

bool cuda_looks_up(const Quantizer *quantizer) {
  return is_within_look_up(quantizer) && quantizer->map->table.lookup.half > 0;
}

/* The same of entries below numbers; the device has the map. */
static bool looks_up_below(const Quantizer *quantizer) {
  return is_within_look_up(quantizer) && quantizer->map->below.half > 0;
}

/* Whether x and what it becomes are whole vectors, and all of one dtype. */
static bool is_of_vectors(const QuantizeJob *job) {
  const QuantizePlan *plan = &job->plan;
  enum { VECTOR = 16 };
  if (plan->values && plan->values_dtype != plan->dtype) return false;
  return plan->count % job->vector == 0 && is_aligned(plan->x, VECTOR) && is_aligned(plan->values, VECTOR) &&
         is_aligned(plan->codes, VECTOR);
}

static bool start(QuantizeJob *job, const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  *job = (QuantizeJob){.device = cuda_tensor_device(x), .outputs = outputs, .x = x, .quantizer = quantizer};
  QuantizePlan *plan = &job->plan;
  if (!job->device || !cuda_quantize_plan(plan, job->device, quantizer, tensor_count(x))) return false;
  plan->x = tensor_data(x);
  plan->dtype = x->dtype;
  if (quantizer->known_scale) plan->known_scale = tensor_data(quantizer->known_scale);
  if (outputs->codes) plan->codes = tensor_data(outputs->codes);
  if (outputs->scale) plan->scale = tensor_data(outputs->scale);
  if (outputs->values) {
    plan->values = tensor_data(outputs->values);
    plan->values_dtype = outputs->values->dtype;
  }
  job->columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  job->rows = plan->count / job->columns;
  job->vector = 16 / dtype_size(x->dtype);
  bool nearest = !quantizer->map || cuda_looks_up(quantizer);
  bool random = !quantizer->map || quantizer->grid.bits > 0 || plan->powers.count > 0 || looks_up_below(quantizer);
  job->fast = !plan->stochastic && nearest && is_of_vectors(job);
  job->fast_random = plan->stochastic && random && is_of_vectors(job);
  job->measurable = cuda_measurable(plan->x, x->dtype, job->columns);
  return true;
}

/* --- column sums on their own, and codes transposed on their own --- */

/* cuda_reduce measures, too, where it can. */
bool cuda_sum_columns(const QuantizeJob *job) {
  if (!job->outputs->column_sum) return true;
  Tensor columns = tensor_as_transposed_matrix(job->x);
  return cuda_reduce(REDUCE_SUM, 0, job->outputs->column_sum, &columns);
}

/* Column sums that have been noted with x are no part of what is left to do. */
static bool take_known_sums(const QuantizeJob *job, QuantizeOutputs *rest) {
  bool known = false;
  if (rest->column_sum && !cuda_known_column_sums(job->device, rest->column_sum, job->x, &known)) return false;
  if (known) rest->column_sum = NULL;
  return true;
}

static bool transpose_codes(const QuantizeJob *job, const Tensor *codes) {
  Tensor columns = tensor_as_transposed_matrix(codes);
  return cuda_copy(job->outputs->transposed, &columns, true);
}

/* --- a small tensor with one scale: everything in one launch --- */

/* Its grid, or 0 if the kernel does not take this. */
static int plan_whole(const QuantizeJob *job, WholePlan *whole) {
  enum { MOST_ROWS_SUMMED = 4096, SIDE = 4 };
  const QuantizeOutputs *outputs = job->outputs;
  *whole = (WholePlan){.quantize = job->plan, .rows = job->rows, .columns = job->columns};
  if (job->plan.rule.rounding == SCALE_E4M3) return 0;
  if (!job->fast || !job->measurable || job->plan.known_scale || job->plan.blocksize != job->plan.count) return 0;
  if (outputs->transposed) {
    whole->transposed = tensor_data(outputs->transposed);
    if (job->rows % SIDE != 0 || !is_aligned(whole->transposed, SIDE)) return 0;
  }
  if (outputs->scale) whole->scale_count = tensor_count(outputs->scale);
  if (outputs->column_sum) {
    whole->sum = tensor_data(outputs->column_sum);
    whole->sum_dtype = outputs->column_sum->dtype;
    if (job->rows > MOST_ROWS_SUMMED) return 0;
  }
  return quantize_whole_grid(whole, job->device->launch.multiprocessors);
}

static bool quantize_whole(const QuantizeJob *job, WholePlan *whole, int grid) {
  Tensor maxima = {0}, partials = {0};
  int64_t rows = divide_up(job->rows, WHOLE_PATCH_ROWS);
  bool done =
      cuda_scratch(&maxima, job->device, grid * (int64_t)sizeof *whole->maxima) &&
      (!whole->sum || cuda_scratch(&partials, job->device, rows * job->columns * (int64_t)sizeof *whole->partials));
  if (done) {
    whole->maxima = tensor_data(&maxima);
    if (whole->sum) whole->partials = tensor_data(&partials);
    done = cuda_launched(job->device, launch_quantize_whole(job->device->launch, whole), "quantize kernel");
  }
  tensor_release(&maxima);
  tensor_release(&partials);
  return done;
}

/* --- codes and their transpose --- */

/* The kernel that writes both, of x with a scale that is known or follows from `maxima`; and sums columns, if asked. */
static bool write_transposed(const QuantizeJob *job, const Maxima *maxima, Tensor *sum) {
  TransposePlan plan = {.quantize = job->plan,
                        .transposed = tensor_data(job->outputs->transposed),
                        .rows = job->rows,
                        .columns = job->columns};
  if (maxima->count > 0) {
    plan.maxima = tensor_data(&maxima->words);
    plan.maxima_count = maxima->count;
  }
  Tensor partials = {0};
  int64_t rows = divide_up(job->rows, TRANSPOSE_ROWS);
  if (sum) {
    if (!cuda_scratch(&partials, job->device, rows * job->columns * (int64_t)sizeof *plan.partials)) return false;
    plan.partials = tensor_data(&partials);
  }
  bool done = cuda_launched(job->device, launch_quantize_transposed(job->device->launch, &plan), "quantize kernel") &&
              (!sum || cuda_finish_sum(job->device, sum, plan.partials, rows, job->columns));
  tensor_release(&partials);
  return done;
}

/* Where the absmax is not known, it comes out of a first pass, with the sums. */
static bool quantize_transposed(const QuantizeJob *job) {
  Maxima maxima = {0};
  Tensor *sum = job->outputs->column_sum;
  if (job->plan.known_scale) return write_transposed(job, &maxima, sum);
  bool known = cuda_known_maxima(job->x, &maxima);
  bool done =
      (known || cuda_measure(job->device, job->plan.x, job->plan.dtype, job->rows, job->columns, sum, &maxima)) &&
      write_transposed(job, &maxima, known ? sum : NULL);
  tensor_release(&maxima.words);
  return done;
}

/* Of a matrix, without values, with one scale. */
static bool allows_transposing(const QuantizeJob *job) {
  enum { SIDE = 16 };
  bool one_scale = job->quantizer->tile_rows == 0 && job->plan.blocksize == job->plan.count;
  return job->fast && job->measurable && !job->plan.values && one_scale && job->plan.rule.rounding != SCALE_E4M3 &&
         job->rows % SIDE == 0 && job->columns % SIDE == 0 && is_aligned(tensor_data(job->outputs->transposed), SIDE);
}

/* Band by band, or the codes first, then their transpose. */
static bool quantize_then_transpose(QuantizeJob *job) {
  Tensor codes = {0};
  bool done = true;
  if (job->outputs->codes) {
    codes = *job->outputs->codes;
  } else {
    done = tensor_create_like(&codes, job->x, job->quantizer->format);
    job->plan.codes = done ? tensor_data(&codes) : NULL;
  }
  bool both = false;
  done = done && cuda_quantize_bands(job, &both);
  if (done && !both) done = cuda_quantize_codes(job) && transpose_codes(job, &codes);
  if (!job->outputs->codes) tensor_release(&codes);
  return done;
}

bool cuda_repeat_scale(const CudaDevice *device, const Tensor *scale) {
  int64_t repeats = tensor_count(scale) - 1;
  float *first = tensor_data(scale);
  return repeats == 0 ||
         cuda_launched(device, launch_expand_scale(device->launch, first + 1, first, repeats), "scale kernel");
}

bool cuda_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  if (tensor_count(x) == 0) {
    return (!outputs->column_sum || cuda_fill(outputs->column_sum, number_of(0))) &&
           (!outputs->scale || cuda_fill(outputs->scale, number_of(0)));
  }
  QuantizeJob job;
  WholePlan whole;
  QuantizeOutputs rest = *outputs;
  if (!start(&job, &rest, x, quantizer) || !take_known_sums(&job, &rest)) return false;
  int grid = plan_whole(&job, &whole);
  if (grid > 0) return quantize_whole(&job, &whole, grid);
  bool done = !rest.transposed           ? cuda_quantize_codes(&job)
              : allows_transposing(&job) ? quantize_transposed(&job)
                                         : quantize_then_transpose(&job);
  bool repeated = rest.scale && job.plan.blocksize == job.plan.count;
  return done && (!repeated || cuda_repeat_scale(job.device, rest.scale));
}

bool cuda_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  QuantizePlan plan;
  if (!device || !cuda_quantize_plan(&plan, device, quantizer, tensor_count(out))) return false;
  plan.values = tensor_data(out);
  plan.values_dtype = out->dtype;
  plan.codes = tensor_data(codes);
  plan.scale = tensor_data(scale);
  if (quantizer->tile_rows > 0) return cuda_dequantize_tiles(device, &plan, quantizer, out->size[out->rank - 1]);
  return cuda_launched(device, launch_dequantize(device->launch, &plan), "dequantize kernel");
}
