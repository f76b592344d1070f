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
  FEW_VECTORS = 2,
  MOST_VECTORS = 4,
  RANDOM_VECTORS = 8
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

/* Stochastic rounding by a look-up: each thread block stages large tables, so that they are few and large. Threads have as
 * few vectors of short pieces as let lanes read whole sectors, and as many of long ones as have room. Measured. */
static void cut_for_tables(PiecesPlan *plan, const QuantizeJob *job, int64_t length) {
  enum { SHORT_BYTES = 64, LONG_BYTES = 1024 };
  int64_t bytes = length * 16 / job->vector;
  bool few = bytes <= SHORT_BYTES && !job->plan.divide, many = bytes > LONG_BYTES || job->plan.divide;
  cuda_cut_pieces(plan, length, job->vector, few ? FEW_VECTORS : many ? RANDOM_VECTORS : MOST_VECTORS);
  plan->stays = true;
  plan->threads = plan->group > MOST_THREADS_RANDOM ? plan->group : MOST_THREADS_RANDOM;
}

/* Thread blocks that come and go are faster, but for large look-ups, which each has to read. Then two vectors a thread are
 * faster for short pieces, and for all but the longest if only values are written. Random numbers leave few registers, so
 * that the vectors wait elsewhere, and can be more. Measured. */
static void cut(PiecesPlan *plan, const QuantizeJob *job, int64_t length) {
  enum { SHORT_BYTES = 512, LONG_BYTES = 8192, SMALL_LOOKUP = 512 };
  bool arithmetic = job->plan.grid.bits > 0 || job->plan.powers.count > 0;
  bool looks_up = job->quantizer->map && !arithmetic, random = job->plan.stochastic && !looks_up;
  if (looks_up && job->plan.stochastic) {
    cut_for_tables(plan, job, length);
    return;
  }
  bool large = looks_up && job->quantizer->map->table.lookup.half > SMALL_LOOKUP;
  int64_t bytes = length * 16 / job->vector;
  plan->stays = job->plan.divide || large;
  bool few = plan->stays && !job->plan.divide && bytes <= (plan->quantize.codes ? SHORT_BYTES : LONG_BYTES);
  cuda_cut_pieces(plan, length, job->vector, few ? FEW_VECTORS : random ? RANDOM_VECTORS : MOST_VECTORS);
  plan->threads = plan->group > USUAL_THREADS ? plan->group : USUAL_THREADS;
}

/* Whether threads keep to their columns: pieces are parts of a row that divide it, or rows, of which each vector has some, or
 * a part that divides one; and what a thread block holds is rows, or a part of one that divides it. */
static bool keeps_columns(const PiecesPlan *plan, const QuantizeJob *job) {
  int64_t length = plan->length, span = plan->threads / plan->group * length, columns = job->columns;
  bool parts = columns % length == 0;
  bool rows = length % columns == 0 && length == plan->group * plan->vectors * job->vector &&
              (length % (columns * plan->vectors) == 0 || plan->vectors % (length / columns) == 0);
  return columns % job->vector == 0 && (parts || rows) && (span % columns == 0 || columns % span == 0);
}

/* The same with column sums, if they are wanted and threads keep to their columns. If a thread block holds many rows, the
 * sums at the end outweigh what one pass saves. */
static bool cut_summing(PiecesPlan *plan, const QuantizeJob *job, int64_t length) {
  enum { MOST_ROWS = 8, LONGEST_CHAIN = 512 };
  if (!fuses_sums(job)) return false;
  PiecesPlan sums = *plan;
  cuda_cut_pieces(&sums, length, job->vector, MOST_VECTORS);
  sums.threads = sums.group > USUAL_THREADS ? sums.group : USUAL_THREADS;
  if (sums.threads > MOST_THREADS_SUMMING || !keeps_columns(&sums, job)) return false;
  int64_t span = sums.threads / sums.group * length;
  if (span > job->columns * MOST_ROWS && sums.quantize.count > span) return false;
  sums.strips = job->columns > span ? (int)(job->columns / span) : 1;
  sums.columns = job->columns;
  int64_t turns = divide_up(sums.quantize.count, sums.strips * span);
  int64_t resident = (int64_t)job->device->launch.multiprocessors * (MOST_THREADS_SUMMING / sums.threads);
  int64_t wanted = divide_up(resident, sums.strips), least = divide_up(turns, LONGEST_CHAIN);
  int64_t rows = wanted > least ? wanted : least;
  sums.grid = (int)(rows < turns ? rows : turns) * sums.strips;
  *plan = sums;
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

/* With column sums, which are done before this unless the pieces are cut for them. */
static bool quantize_pieces(const QuantizeJob *job, PiecesPlan *plan) {
  Tensor partials = {0};
  if (job->quantizer->map) plan->half = job->quantizer->map->below.half;
  bool summing = plan->grid > 0;
  if (!summing && !plan->maxima && !cuda_sum_columns(job)) return false;
  int64_t rows = summing ? plan->grid / plan->strips : 0;
  if (summing) {
    if (!cuda_scratch(&partials, job->device, rows * job->columns * (int64_t)sizeof *plan->partials)) return false;
    plan->partials = tensor_data(&partials);
  }
  bool done = cuda_launched(job->device, launch_pieces(job->device->launch, plan), "quantize kernel") &&
              (!summing || cuda_finish_sum(job->device, job->outputs->column_sum, plan->partials, rows, job->columns));
  tensor_release(&partials);
  return done;
}

/* One scale for the whole tensor, or a known one: a piece is any part of a block. */
static bool quantize_parts(const QuantizeJob *job) {
  PiecesPlan plan = {.quantize = job->plan};
  int64_t part = most_in_registers(job, 32);
  if (part > job->plan.blocksize) part = job->plan.blocksize;
  if (job->plan.known_scale && cut_summing(&plan, job, part)) return quantize_pieces(job, &plan);
  cut(&plan, job, part);
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
      if (!cut_summing(&plan, job, length)) cut(&plan, job, length);
      return quantize_pieces(job, &plan);
    }
    if (whole || (job->plan.known_scale && length % part == 0)) return quantize_parts(job);
  }
  return cuda_sum_columns(job) && quantize_generally(job);
}
