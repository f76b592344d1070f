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

bool cuda_quantize(Tensor *codes, Tensor *scale, const Tensor *x, const Quantizer *quantizer) {
  if (tensor_count(x) == 0) return true;
  CudaDevice *device = cuda_tensor_device(x);
  QuantizePlan plan;
  if (!device || !plan_of(&plan, device, quantizer, tensor_count(x))) return false;
  plan.x = tensor_data(x);
  plan.dtype = x->dtype;
  plan.codes = tensor_data(codes);
  plan.scale = tensor_data(scale);
  return encode(device, &plan);
}

bool cuda_fake_quantize(Tensor *out, const Tensor *x, const Quantizer *quantizer) {
  if (tensor_count(x) == 0) return true;
  CudaDevice *device = cuda_tensor_device(x);
  QuantizePlan plan;
  if (!device || !plan_of(&plan, device, quantizer, tensor_count(x))) return false;
  plan.x = tensor_data(x);
  plan.dtype = x->dtype;
  plan.values = tensor_data(out);
  plan.values_dtype = out->dtype;
  return encode(device, &plan);
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
