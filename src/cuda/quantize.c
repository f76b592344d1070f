/* Quantization: chooses between the fast kernels and the general one, and what has to run before them. */
#include "measure.h"
#include "quantize_tiles.h"

/* A quantization under way. `plan` is filled in for all of its passes. */
typedef struct Job {
  CudaDevice *device;
  const QuantizeOutputs *outputs;
  const Tensor *x;
  const Quantizer *quantizer;
  QuantizePlan plan;
  int64_t rows, columns;
  int64_t vector;  /* elements in 16 bytes of x */
  bool fast;       /* the fast kernels take it, if its shape fits */
  bool measurable; /* cuda_measure takes x */
} Job;

bool cuda_quantize_plan(QuantizePlan *plan, const CudaDevice *device, const Quantizer *quantizer, int64_t count) {
  *plan = (QuantizePlan){
      .format = quantizer->format,
      .count = count,
      .blocksize = quantizer->blocksize < count ? quantizer->blocksize : count,
      .scale_rounding = quantizer->scale_rounding,
      .divide = quantizer->map && quantizer->divide,
      .stochastic = quantizer->stochastic,
      .random = quantizer->random,
  };
  if (!quantizer->map) return true;
  plan->map = cuda_map_table(device, quantizer->map);
  return plan->map != NULL;
}

static bool allows_fast_kernels(const Job *job) {
  const QuantizePlan *plan = &job->plan;
  enum { VECTOR = 16 };
  if (plan->stochastic || (job->quantizer->map && job->quantizer->map->table.lookup.half == 0)) return false;
  if (plan->values && plan->values_dtype != plan->dtype) return false;
  return plan->count % job->vector == 0 && is_aligned(plan->x, VECTOR) && is_aligned(plan->values, VECTOR) &&
         is_aligned(plan->codes, VECTOR);
}

static bool start(Job *job, const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  *job = (Job){.device = cuda_tensor_device(x), .outputs = outputs, .x = x, .quantizer = quantizer};
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
  job->vector = 16 / element_bytes(x->dtype);
  job->fast = allows_fast_kernels(job);
  job->measurable = cuda_measurable(plan->x, x->dtype, job->columns);
  return true;
}

/* --- column sums on their own, and codes transposed on their own --- */

static Tensor as_matrix(const Job *job, const Tensor *tensor) {
  Tensor matrix = *tensor;
  matrix.rank = 2;
  matrix.size[0] = job->rows;
  matrix.size[1] = matrix.stride[0] = job->columns;
  matrix.stride[1] = 1;
  return matrix;
}

static Tensor swap_dimensions(const Tensor *matrix) {
  Tensor swapped = *matrix;
  swapped.size[0] = matrix->size[1];
  swapped.size[1] = matrix->size[0];
  swapped.stride[0] = matrix->stride[1];
  swapped.stride[1] = matrix->stride[0];
  return swapped;
}

/* cuda_reduce measures, too, where it can. */
static bool sum_columns(const Job *job) {
  if (!job->outputs->column_sum) return true;
  Tensor matrix = as_matrix(job, job->x), swapped = swap_dimensions(&matrix);
  return cuda_reduce(REDUCE_SUM, job->outputs->column_sum, &swapped);
}

static bool transpose_codes(const Job *job, Tensor *codes) {
  Tensor matrix = as_matrix(job, codes), swapped = swap_dimensions(&matrix);
  return cuda_copy(job->outputs->transposed, &swapped, true);
}

/* --- the general way --- */

static bool quantize_generally(const Job *job) {
  QuantizePlan plan = job->plan;
  cudaStream_t stream = job->device->launch.stream;
  if (plan.blocksize <= QUANTIZE_TILE || plan.known_scale) {
    return cuda_check(launch_quantize(job->device->launch, &plan), "quantize kernel");
  }
  int64_t bytes = ((plan.count - 1) / plan.blocksize + 1) * (int64_t)sizeof *plan.magnitudes;
  Tensor magnitudes = {0};
  if (!cuda_scratch(&magnitudes, job->device, bytes)) return false;
  uint32_t *words = tensor_data(&magnitudes);
  plan.magnitudes = words;
  bool done = cuda_check(cudaMemsetAsync(words, 0, (size_t)bytes, stream), "cudaMemsetAsync") &&
              cuda_check(launch_block_magnitudes(job->device->launch, &plan, words), "absmax kernel") &&
              cuda_check(launch_quantize(job->device->launch, &plan), "quantize kernel");
  tensor_release(&magnitudes);
  return done;
}

/* --- pieces in registers --- */

enum { MOST_THREADS = 1024, MOST_THREADS_SUMMING = 512, USUAL_THREADS = 256, MOST_VECTORS = 4 };

/* How many threads hold a piece: a power of two. */
static int group_of(int64_t length, int64_t vector, int vectors) {
  int group = 1;
  while (group * vectors * vector < length) group *= 2;
  return group;
}

static int64_t most_in_registers(const Job *job, int threads) { return threads * MOST_VECTORS * job->vector; }

/* Whether a pass over pieces may take column sums with it. Those of few rows are faster on their own; measured. */
static bool fuses_sums(const Job *job) {
  return job->outputs->column_sum && !job->plan.divide && job->rows > MEASURE_FEW_ROWS;
}

/* Two vectors a thread are faster for short pieces, and for all but the longest if only values are written; measured. */
static void cut(PiecesPlan *plan, const Job *job, int64_t length, bool summing) {
  enum { SHORT_BYTES = 512, LONG_BYTES = 8192 };
  int64_t bytes = length * 16 / job->vector;
  bool few = !plan->quantize.divide && !summing && bytes <= (plan->quantize.codes ? SHORT_BYTES : LONG_BYTES);
  plan->length = length;
  plan->count = (plan->quantize.count + length - 1) / length;
  plan->pieces_a_block = (plan->quantize.blocksize + length - 1) / length;
  plan->vectors = few ? 2 : MOST_VECTORS;
  plan->group = group_of(length, job->vector, plan->vectors);
  plan->threads = plan->group > USUAL_THREADS ? plan->group : USUAL_THREADS;
}

/* Whether threads can keep to their columns: what a thread block holds is rows, or a part of one that divides it. If it
 * is many rows, the sums at the end outweigh what one pass saves. */
static bool plan_sums(PiecesPlan *plan, const Job *job) {
  enum { BLOCKS_EACH = 2, MOST_ROWS = 8, LONGEST_CHAIN = 512 };
  int64_t span = plan->threads / plan->group * plan->length;
  if (plan->quantize.divide || plan->vectors != MOST_VECTORS || plan->group > MOST_THREADS_SUMMING) return false;
  if (span % job->columns != 0 && job->columns % span != 0) return false;
  if (span > job->columns * MOST_ROWS && plan->quantize.count > span) return false;
  plan->strips = job->columns > span ? (int)(job->columns / span) : 1;
  plan->partial_width = job->columns > span ? job->columns : span;
  int64_t turns = (plan->quantize.count + plan->partial_width - 1) / plan->partial_width;
  int64_t wanted = ((int64_t)job->device->launch.multiprocessors * BLOCKS_EACH + plan->strips - 1) / plan->strips;
  int64_t least = (turns + LONGEST_CHAIN - 1) / LONGEST_CHAIN;
  int64_t rows = wanted > least ? wanted : least;
  plan->grid = (int)(rows < turns ? rows : turns) * plan->strips;
  return true;
}

static cudaError_t launch_pieces(Launch launch, const PiecesPlan *plan) {
  switch (plan->quantize.dtype) {
  case DTYPE_F32:
    return launch_quantize_pieces_f32(launch, plan);
  case DTYPE_F16:
    return launch_quantize_pieces_f16(launch, plan);
  default:
    return launch_quantize_pieces_bf16(launch, plan);
  }
}

/* With column sums, which are done before this otherwise. */
static bool quantize_pieces(const Job *job, PiecesPlan *plan) {
  Tensor partials = {0};
  bool summing = !plan->maxima && fuses_sums(job) && plan_sums(plan, job);
  if (!summing && !plan->maxima && !sum_columns(job)) return false;
  int64_t rows = summing ? plan->grid / plan->strips : 0;
  if (summing) {
    if (!cuda_scratch(&partials, job->device, rows * plan->partial_width * (int64_t)sizeof *plan->partials))
      return false;
    plan->partials = tensor_data(&partials);
  }
  bool done =
      cuda_check(launch_pieces(job->device->launch, plan), "quantize kernel") &&
      (!summing || cuda_finish_sum(job->device, job->outputs->column_sum, plan->partials, rows, plan->partial_width));
  tensor_release(&partials);
  return done;
}

/* One scale for the whole tensor, or a known one: a piece is any part of a block. */
static bool quantize_parts(const Job *job) {
  PiecesPlan plan = {.quantize = job->plan};
  int64_t part = most_in_registers(job, 32);
  if (part > job->plan.blocksize) part = job->plan.blocksize;
  cut(&plan, job, part, false);
  if (job->plan.known_scale) return quantize_pieces(job, &plan);
  Maxima maxima = {0};
  /* Without sums any matrix of x's elements will do. */
  bool summing = job->outputs->column_sum && job->measurable;
  bool done = (summing || sum_columns(job)) &&
              (summing ? cuda_measure(job->device, plan.quantize.x, plan.quantize.dtype, job->rows, job->columns,
                                      job->outputs->column_sum, &maxima)
                       : cuda_measure(job->device, plan.quantize.x, plan.quantize.dtype,
                                      plan.quantize.count / job->vector, job->vector, NULL, &maxima));
  plan.maxima = done ? tensor_data(&maxima.words) : NULL;
  plan.maxima_count = maxima.count;
  done = done && quantize_pieces(job, &plan);
  tensor_release(&maxima.words);
  return done;
}

static bool quantize_codes(const Job *job) {
  int64_t length = job->plan.blocksize, count = job->plan.count;
  if (job->quantizer->tile_rows > 0) {
    return sum_columns(job) && cuda_quantize_tiles(job->device, &job->plan, job->quantizer, job->columns);
  }
  bool whole = length == count;
  int64_t part = most_in_registers(job, 32);
  if (job->fast && length % job->vector == 0) {
    bool fits = length <= most_in_registers(job, MOST_THREADS);
    if (fits && !(whole && job->plan.known_scale)) {
      PiecesPlan plan = {.quantize = job->plan};
      cut(&plan, job, length, fuses_sums(job));
      return quantize_pieces(job, &plan);
    }
    if (whole || (job->plan.known_scale && length % part == 0)) return quantize_parts(job);
  }
  return sum_columns(job) && quantize_generally(job);
}

/* --- a small tensor with one scale: everything in one launch --- */

/* Its grid, or 0 if the kernel does not take this. */
static int plan_whole(const Job *job, WholePlan *whole) {
  enum { MOST_ROWS_SUMMED = 4096, SIDE = 4 };
  const QuantizeOutputs *outputs = job->outputs;
  *whole = (WholePlan){.quantize = job->plan, .rows = job->rows, .columns = job->columns};
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

static bool quantize_whole(const Job *job, WholePlan *whole, int grid) {
  Tensor maxima = {0}, partials = {0};
  int64_t rows = (job->rows + WHOLE_TILE_ROWS - 1) / WHOLE_TILE_ROWS;
  bool done =
      cuda_scratch(&maxima, job->device, grid * (int64_t)sizeof *whole->maxima) &&
      (!whole->sum || cuda_scratch(&partials, job->device, rows * job->columns * (int64_t)sizeof *whole->partials));
  if (done) {
    whole->maxima = tensor_data(&maxima);
    if (whole->sum) whole->partials = tensor_data(&partials);
    done = cuda_check(launch_quantize_whole(job->device->launch, whole), "quantize kernel");
  }
  tensor_release(&maxima);
  tensor_release(&partials);
  return done;
}

/* --- codes and their transpose --- */

/* The kernel that writes both, of x with a scale that is known or follows from `maxima`. */
static bool write_transposed(const Job *job, const float *known_scale, const Maxima *maxima) {
  TransposePlan plan = {.quantize = job->plan,
                        .transposed = tensor_data(job->outputs->transposed),
                        .rows = job->rows,
                        .columns = job->columns,
                        .row_scale = job->plan.blocksize != job->plan.count};
  plan.quantize.known_scale = known_scale;
  if (maxima) {
    plan.maxima = tensor_data(&maxima->words);
    plan.maxima_count = maxima->count;
  }
  return cuda_check(launch_quantize_transposed(job->device->launch, &plan), "quantize kernel");
}

/* Scales of rows come out of a first pass, the absmax of the whole tensor too. */
static bool quantize_transposed(Job *job) {
  Tensor scratch = {0};
  Maxima maxima = {0};
  const float *scale = job->plan.known_scale;
  bool done = true;
  if (scale) {
    done = sum_columns(job);
  } else if (job->plan.blocksize == job->plan.count) {
    done = cuda_measure(job->device, job->plan.x, job->plan.dtype, job->rows, job->columns, job->outputs->column_sum,
                        &maxima);
  } else {
    Job first = *job;
    first.plan.codes = NULL;
    if (!first.plan.scale) {
      done = cuda_scratch(&scratch, job->device, job->rows * (int64_t)sizeof *scale);
      first.plan.scale = done ? tensor_data(&scratch) : NULL;
    }
    done = done && quantize_codes(&first);
    scale = first.plan.scale;
  }
  done = done && write_transposed(job, scale, scale ? NULL : &maxima);
  tensor_release(&scratch);
  tensor_release(&maxima.words);
  return done;
}

/* Of a matrix, without values, with one scale, or one a row. */
static bool allows_transposing(const Job *job) {
  enum { SIDE = 16 };
  bool blocks = job->quantizer->tile_rows == 0;
  bool scales = blocks && (job->plan.blocksize == job->plan.count || job->plan.blocksize == job->columns);
  return job->fast && job->measurable && !job->plan.values && scales && job->rows % SIDE == 0 &&
         job->columns % SIDE == 0 && is_aligned(tensor_data(job->outputs->transposed), SIDE);
}

/* The codes first, then their transpose. */
static bool quantize_then_transpose(Job *job) {
  Tensor codes = {0};
  bool done = true;
  if (job->outputs->codes) {
    codes = *job->outputs->codes;
  } else {
    done = tensor_create_like(&codes, job->x, job->quantizer->format);
    job->plan.codes = done ? tensor_data(&codes) : NULL;
  }
  done = done && quantize_codes(job) && transpose_codes(job, &codes);
  if (!job->outputs->codes) tensor_release(&codes);
  return done;
}

/* The scale of a single block to all elements after the first. */
static bool repeat_scale(const Job *job, Tensor *scale) {
  int64_t repeats = tensor_count(scale) - 1;
  float *first = tensor_data(scale);
  return cuda_check(launch_expand_scale(job->device->launch, first + 1, first, repeats), "scale kernel");
}

bool cuda_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  if (tensor_count(x) == 0) {
    return (!outputs->column_sum || cuda_fill(outputs->column_sum, 0)) &&
           (!outputs->scale || cuda_fill(outputs->scale, 0));
  }
  Job job;
  WholePlan whole;
  if (!start(&job, outputs, x, quantizer)) return false;
  int grid = plan_whole(&job, &whole);
  if (grid > 0) return quantize_whole(&job, &whole, grid);
  bool done = !outputs->transposed       ? quantize_codes(&job)
              : allows_transposing(&job) ? quantize_transposed(&job)
                                         : quantize_then_transpose(&job);
  bool repeated = outputs->scale && job.plan.blocksize == job.plan.count && tensor_count(outputs->scale) > 1;
  return done && (!repeated || repeat_scale(&job, outputs->scale));
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
  return cuda_check(launch_dequantize(device->launch, &plan), "dequantize kernel");
}
