/* Codes, values and scales in the order of x: by the kernels that hold pieces of it in registers, or by the general one. */
#include "cuda/measure.h"
#include "cuda/quantize/job.h"
#include "cuda/quantize/tiles.h"

/* --- the general way --- */

static bool quantize_generally(const QuantizeJob *job) {
  QuantizePlan plan = job->plan;
  cudaStream_t stream = job->device->launch.stream;
  if (plan.blocksize <= QUANTIZE_PIECE || plan.known_scale) {
    return cuda_launched(job->device, launch_quantize(job->device->launch, &plan), "quantize kernel");
  }
  int64_t bytes = divide_up(plan.count, plan.blocksize) * (int64_t)sizeof *plan.magnitudes;
  Tensor magnitudes = {0};
  if (!cuda_scratch(&magnitudes, job->device, bytes)) return false;
  uint32_t *words = tensor_data(&magnitudes);
  plan.magnitudes = words;
  bool done = cuda_check(cudaMemsetAsync(words, 0, (size_t)bytes, stream), "cudaMemsetAsync") &&
              cuda_launched(job->device, launch_block_magnitudes(job->device->launch, &plan, words), "absmax kernel") &&
              cuda_launched(job->device, launch_quantize(job->device->launch, &plan), "quantize kernel");
  tensor_release(&magnitudes);
  return done;
}

/* --- pieces in registers --- */

enum {
  MOST_THREADS = 1024,
  MOST_THREADS_SUMMING = 512,
  MOST_THREADS_RANDOM = 512,
  USUAL_THREADS = 256,
  MOST_VECTORS = 4
};

void cuda_cut_pieces(PiecesPlan *plan, int64_t length, int64_t vector, int vectors) {
  plan->length = length;
  plan->count = divide_up(plan->quantize.count, length);
  plan->pieces_a_block = divide_up(plan->quantize.blocksize, length);
  plan->vectors = vectors;
  plan->group = 1;
  while (plan->group * vectors * vector < length) plan->group *= 2;
}

static int64_t most_in_registers(const QuantizeJob *job, int threads) { return threads * MOST_VECTORS * job->vector; }

/* Whether a pass over pieces may take column sums with it. Those of few rows are faster on their own; measured. */
static bool fuses_sums(const QuantizeJob *job) {
  return job->outputs->column_sum && !job->plan.divide && job->rows > MEASURE_FEW_ROWS;
}

/* Two vectors a thread are faster for short pieces, and for all but the longest if only values are written; measured. */
static void cut(PiecesPlan *plan, const QuantizeJob *job, int64_t length, bool summing) {
  enum { SHORT_BYTES = 512, LONG_BYTES = 8192 };
  int64_t bytes = length * 16 / job->vector;
  bool few = !plan->quantize.divide && !summing && bytes <= (plan->quantize.codes ? SHORT_BYTES : LONG_BYTES);
  cuda_cut_pieces(plan, length, job->vector, few ? 2 : MOST_VECTORS);
  plan->threads = plan->group > USUAL_THREADS ? plan->group : USUAL_THREADS;
}

/* Whether threads can keep to their columns: what a thread block holds is rows, or a part of one that divides it. If it
 * is many rows, the sums at the end outweigh what one pass saves. */
static bool plan_sums(PiecesPlan *plan, const QuantizeJob *job) {
  enum { BLOCKS_EACH = 2, MOST_ROWS = 8, LONGEST_CHAIN = 512 };
  int64_t span = plan->threads / plan->group * plan->length;
  if (plan->quantize.divide || plan->vectors != MOST_VECTORS || plan->group > MOST_THREADS_SUMMING) return false;
  if (span % job->columns != 0 && job->columns % span != 0) return false;
  if (span > job->columns * MOST_ROWS && plan->quantize.count > span) return false;
  plan->strips = job->columns > span ? (int)(job->columns / span) : 1;
  plan->partial_width = job->columns > span ? job->columns : span;
  int64_t turns = divide_up(plan->quantize.count, plan->partial_width);
  int64_t wanted = divide_up((int64_t)job->device->launch.multiprocessors * BLOCKS_EACH, plan->strips);
  int64_t least = divide_up(turns, LONGEST_CHAIN);
  int64_t rows = wanted > least ? wanted : least;
  plan->grid = (int)(rows < turns ? rows : turns) * plan->strips;
  return true;
}

static cudaError_t launch_pieces(Launch launch, PiecesPlan *plan) {
  if (plan->quantize.stochastic) cuda_set_grid(&plan->quantize);
  switch (plan->quantize.dtype) {
  case DTYPE_F32:
    return launch_quantize_pieces_f32(launch, plan);
  case DTYPE_F16:
    return launch_quantize_pieces_f16(launch, plan);
  case DTYPE_BF16:
    return launch_quantize_pieces_bf16(launch, plan);
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

/* With column sums, which are done before this otherwise. */
static bool quantize_pieces(const QuantizeJob *job, PiecesPlan *plan) {
  Tensor partials = {0};
  bool summing = !plan->maxima && fuses_sums(job) && plan_sums(plan, job);
  if (!summing && !plan->maxima && !cuda_sum_columns(job)) return false;
  int64_t rows = summing ? plan->grid / plan->strips : 0;
  if (summing) {
    if (!cuda_scratch(&partials, job->device, rows * plan->partial_width * (int64_t)sizeof *plan->partials))
      return false;
    plan->partials = tensor_data(&partials);
  }
  bool done =
      cuda_launched(job->device, launch_pieces(job->device->launch, plan), "quantize kernel") &&
      (!summing || cuda_finish_sum(job->device, job->outputs->column_sum, plan->partials, rows, plan->partial_width));
  tensor_release(&partials);
  return done;
}

/* One scale for the whole tensor, or a known one: a piece is any part of a block. */
static bool quantize_parts(const QuantizeJob *job) {
  PiecesPlan plan = {.quantize = job->plan};
  int64_t part = most_in_registers(job, 32);
  if (part > job->plan.blocksize) part = job->plan.blocksize;
  cut(&plan, job, part, false);
  if (job->plan.known_scale) return quantize_pieces(job, &plan);
  Maxima maxima = {0};
  bool known = cuda_known_maxima(job->x, &maxima);
  /* Without sums any matrix of x's elements will do. */
  bool summing = job->outputs->column_sum && job->measurable && !known;
  bool done = (summing || cuda_sum_columns(job)) &&
              (known     ? true
               : summing ? cuda_measure(job->device, plan.quantize.x, plan.quantize.dtype, job->rows, job->columns,
                                        job->outputs->column_sum, &maxima)
                         : cuda_measure(job->device, plan.quantize.x, plan.quantize.dtype,
                                        plan.quantize.count / job->vector, job->vector, NULL, &maxima));
  plan.maxima = done ? tensor_data(&maxima.words) : NULL;
  plan.maxima_count = maxima.count;
  done = done && quantize_pieces(job, &plan);
  tensor_release(&maxima.words);
  return done;
}

bool cuda_quantize_codes(const QuantizeJob *job) {
  int64_t length = job->plan.blocksize, count = job->plan.count;
  if (job->quantizer->tile_rows > 0) {
    return cuda_sum_columns(job) && cuda_quantize_tiles(job->device, &job->plan, job->quantizer, job->columns);
  }
  bool whole = length == count;
  int64_t part = most_in_registers(job, 32);
  if ((job->fast || job->fast_random) && length % job->vector == 0) {
    bool fits = length <= most_in_registers(job, job->fast ? MOST_THREADS : MOST_THREADS_RANDOM);
    if (fits && !(whole && job->plan.known_scale)) {
      PiecesPlan plan = {.quantize = job->plan};
      cut(&plan, job, length, fuses_sums(job));
      return quantize_pieces(job, &plan);
    }
    if (whole || (job->plan.known_scale && length % part == 0)) return quantize_parts(job);
  }
  return cuda_sum_columns(job) && quantize_generally(job);
}
