/* Delayed scaling: the largest magnitude of a tensor, then its scale and the history in one small kernel. */
#include "cuda/measure.h"
#include "cuda/quantize/plan.h"

/* The largest magnitude of any contiguous tensor. */
static bool measure(const CudaDevice *device, const Tensor *x, Maxima *maxima) {
  int64_t count = tensor_count(x), vector = 16 / dtype_size(x->dtype);
  if (cuda_known_maxima(x, maxima)) return true;
  if (count > 0 && count % vector == 0 && cuda_measurable(tensor_data(x), x->dtype, vector)) {
    return cuda_measure(device, tensor_data(x), x->dtype, count / vector, vector, NULL, maxima);
  }
  enum { BYTES = sizeof(uint32_t) };
  maxima->count = 1;
  if (!cuda_scratch(&maxima->words, device, BYTES)) return false;
  uint32_t *word = tensor_data(&maxima->words);
  QuantizePlan plan = {
      .x = tensor_data(x), .dtype = x->dtype, .count = count, .blocksize = count, .format = DTYPE_E4M3};
  return cuda_check(cudaMemsetAsync(word, 0, BYTES, device->launch.stream), "cudaMemsetAsync") &&
         cuda_launched(device, launch_block_magnitudes(device->launch, &plan, word), "absmax kernel");
}

bool cuda_scale_from_history(const CudaDevice *device, const Tensor *scale, const QuantizePlan *plan,
                             const Tensor *history, const uint32_t *maxima, int count, HistoryRecord record) {
  DelayedPlan delayed = {.scale = tensor_data(scale),
                         .history = tensor_data(history),
                         .length = tensor_count(history),
                         .maxima = maxima,
                         .maxima_count = count,
                         .rule = plan->rule,
                         .record = record};
  return cuda_launched(device, launch_delayed_scale(device->launch, &delayed), "delayed scale kernel");
}

bool cuda_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer,
                        HistoryRecord record) {
  CudaDevice *device = cuda_tensor_device(x);
  Maxima maxima = {0};
  if (!device) return false;
  bool done = measure(device, x, &maxima);
  if (done) {
    QuantizePlan plan = {.rule = quantizer->rule};
    done = cuda_scale_from_history(device, scale, &plan, history, tensor_data(&maxima.words), maxima.count, record);
  }
  tensor_release(&maxima.words);
  return done;
}
