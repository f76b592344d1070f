/* What quantizing did to a tensor, and what it would do. */
#include "compare/compare.h"

#include "cuda/measure.h"
#include "cuda/quantize/plan.h"

enum { VECTOR = 16 };

/* --- of values that there are --- */

/* Whether four elements at a time can be read. */
static bool allows_vectors(const ComparePlan *plan) {
  return is_aligned(plan->x, 4 * dtype_size(plan->dtype)) &&
         (!plan->values || is_aligned(plan->values, 4 * dtype_size(plan->values_dtype)));
}

static bool is_whole_vectors(const Tensor *x) {
  int64_t count = tensor_count(x);
  return count > 0 && count % (VECTOR / dtype_size(x->dtype)) == 0 && is_aligned(tensor_data(x), VECTOR);
}

static bool make_partials(Tensor *partials, const CudaDevice *device) {
  int64_t blocks = (int64_t)device->launch.multiprocessors * COMPARE_BLOCKS;
  return cuda_scratch(partials, device, blocks * (int64_t)sizeof(Comparison));
}

bool cuda_compare(Tensor *row, const Tensor *x, const Tensor *values, const Tensor *scale, const CompareRule *rule) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  ComparePlan plan = {.x = tensor_data(x), .dtype = x->dtype, .count = tensor_count(x), .rule = *rule};
  if (values) {
    plan.values = tensor_data(values);
    plan.values_dtype = values->dtype;
    plan.codes = dtype_size(values->dtype) == 1;
  }
  if (scale) plan.scale = tensor_data(scale);
  plan.vectorize = allows_vectors(&plan);
  Tensor partials = {0};
  if (!make_partials(&partials, device)) return false;
  plan.partials = tensor_data(&partials);
  bool alone = !values && !scale && is_whole_vectors(x);
  cudaError_t launched = alone ? launch_compare_magnitudes(device->launch, &plan, tensor_data(row))
                               : launch_compare(device->launch, &plan, tensor_data(row));
  tensor_release(&partials);
  return cuda_launched(device, launched, "compare kernel");
}

/* --- of values that only registers hold --- */

enum { PIECE_THREADS = 32 };

static bool is_one_block(const Tensor *x, const Quantizer *quantizer) {
  return quantizer->tile_rows == 0 && quantizer->blocksize >= tensor_count(x);
}

/* What a thread block holds at once. */
static int64_t most_in_registers(const Tensor *x) {
  return (int64_t)COMPARE_MOST_THREADS * COMPARE_VECTORS * (VECTOR / dtype_size(x->dtype));
}

static bool takes_map(const Quantizer *quantizer) {
  const MapTable *table = &quantizer->map->table;
  return cuda_looks_up(quantizer) && table->value[map_nearest(table->midpoint, table->start, 0)] == 0;
}

bool cuda_compares_quantized(const Tensor *x, const Quantizer *quantizer, DType dtype) {
  if (!is_whole_vectors(x) || quantizer->stochastic || quantizer->tile_rows > 0) return false;
  if (quantizer->rule.rounding == SCALE_E4M3 || (dtype != x->dtype && dtype != DTYPE_F32)) return false;
  if (quantizer->map && !takes_map(quantizer)) return false;
  bool whole_vectors = quantizer->blocksize % (VECTOR / dtype_size(x->dtype)) == 0;
  return is_one_block(x, quantizer) || (whole_vectors && quantizer->blocksize <= most_in_registers(x));
}

/* A piece is a block, or a part of the only one. */
static void cut(PiecesPlan *plan, const Tensor *x, bool parts) {
  int64_t vector = VECTOR / dtype_size(x->dtype), part = PIECE_THREADS * COMPARE_VECTORS * vector;
  int64_t length = parts && part < plan->quantize.blocksize ? part : plan->quantize.blocksize;
  cuda_cut_pieces(plan, length, vector, COMPARE_VECTORS);
  plan->threads = COMPARE_MOST_THREADS;
}

bool cuda_compare_quantized(Tensor *row, const Tensor *x, const Quantizer *quantizer, DType dtype,
                            const CompareRule *rule) {
  CudaDevice *device = cuda_tensor_device(x);
  int64_t count = tensor_count(x), vector = VECTOR / dtype_size(x->dtype);
  ComparePiecesPlan plan = {.low = rule->low, .high = rule->high, .round = quantizer->map && dtype != DTYPE_F32};
  PiecesPlan *pieces = &plan.pieces;
  if (!device || !cuda_quantize_plan(&pieces->quantize, device, quantizer, count)) return false;
  pieces->quantize.x = tensor_data(x);
  pieces->quantize.dtype = x->dtype;
  if (quantizer->known_scale) pieces->quantize.known_scale = tensor_data(quantizer->known_scale);
  bool parts = is_one_block(x, quantizer) && (quantizer->known_scale || count > most_in_registers(x));
  cut(pieces, x, parts);
  Tensor partials = {0};
  Maxima maxima = {0};
  bool done = make_partials(&partials, device);
  plan.partials = done ? tensor_data(&partials) : NULL;
  if (done && parts && !quantizer->known_scale) {
    /* Any matrix of x's elements will do. */
    done = cuda_known_maxima(x, &maxima) ||
           cuda_measure(device, pieces->quantize.x, x->dtype, count / vector, vector, NULL, &maxima);
    pieces->maxima = done ? tensor_data(&maxima.words) : NULL;
    pieces->maxima_count = maxima.count;
  }
  done =
      done && cuda_launched(device, launch_compare_pieces(device->launch, &plan, tensor_data(row)), "compare kernel");
  tensor_release(&partials);
  tensor_release(&maxima.words);
  return done;
}
