/* Quantization: uploads the map, and reduces long blocks before they are encoded. */
#include "internal.h"

/* Everything but the data pointers. */
static bool plan_of(QuantizePlan *plan, const CudaDevice *device, const Quantizer *quantizer, int64_t count) {
  *plan = (QuantizePlan){
      .format = quantizer->format,
      .count = count,
      .blocksize = quantizer->blocksize,
      .divide = quantizer->divide,
      .stochastic = quantizer->stochastic,
      .random = quantizer->random,
  };
  if (!quantizer->map) return true;
  plan->map = cuda_map_table(device, quantizer->map);
  return plan->map != NULL;
}

static bool encode(const CudaDevice *device, QuantizePlan *plan) {
  if (plan->blocksize <= QUANTIZE_TILE) return cuda_check(launch_quantize(device->launch, plan), "quantize kernel");
  int64_t bytes = ((plan->count - 1) / plan->blocksize + 1) * (int64_t)sizeof *plan->magnitudes;
  Tensor magnitudes = {0};
  if (!cuda_scratch(&magnitudes, device, bytes)) return false;
  plan->magnitudes = tensor_data(&magnitudes);
  bool done =
      cuda_check(cudaMemsetAsync(plan->magnitudes, 0, (size_t)bytes, device->launch.stream), "cudaMemsetAsync") &&
      cuda_check(launch_block_magnitudes(device->launch, plan), "absmax kernel") &&
      cuda_check(launch_quantize(device->launch, plan), "quantize kernel");
  tensor_release(&magnitudes);
  return done;
}

/* x as a matrix: its last dimension, and all others as one. */
static Tensor as_matrix(const Tensor *x) {
  Tensor matrix = *x;
  int64_t columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  matrix.rank = 2;
  matrix.size[0] = columns > 0 ? tensor_count(x) / columns : 0;
  matrix.size[1] = matrix.stride[0] = columns;
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

static bool sum_columns(Tensor *column_sum, const Tensor *x) {
  Tensor matrix = as_matrix(x), swapped = swap_dimensions(&matrix);
  return cuda_reduce(REDUCE_SUM, column_sum, &swapped);
}

static bool transpose_codes(Tensor *transposed, const Tensor *codes) {
  Tensor matrix = as_matrix(codes), swapped = swap_dimensions(&matrix);
  return cuda_copy(transposed, &swapped, true);
}

bool cuda_quantize(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  if (outputs->column_sum && !sum_columns(outputs->column_sum, x)) return false;
  if (tensor_count(x) == 0) return true;
  CudaDevice *device = cuda_tensor_device(x);
  QuantizePlan plan;
  if (!device || !plan_of(&plan, device, quantizer, tensor_count(x))) return false;
  plan.x = tensor_data(x);
  plan.dtype = x->dtype;
  if (outputs->codes) {
    plan.codes = tensor_data(outputs->codes);
    plan.scale = tensor_data(outputs->scale);
    if (!encode(device, &plan)) return false;
  }
  if (outputs->values) {
    plan.codes = NULL;
    plan.scale = NULL;
    plan.values = tensor_data(outputs->values);
    plan.values_dtype = outputs->values->dtype;
    if (!encode(device, &plan)) return false;
  }
  return !outputs->transposed || transpose_codes(outputs->transposed, outputs->codes);
}

bool cuda_dequantize(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  QuantizePlan plan;
  if (!device || !plan_of(&plan, device, quantizer, tensor_count(out))) return false;
  plan.values = tensor_data(out);
  plan.values_dtype = out->dtype;
  plan.codes = tensor_data(codes);
  plan.scale = tensor_data(scale);
  return cuda_check(launch_dequantize(device->launch, &plan), "dequantize kernel");
}
