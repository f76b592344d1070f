/* Cross entropy over the rows of contiguous tensors. */
#include "cuda/measure.h"
#include "cuda/quantize/plan.h"

static CrossEntropyPlan cross_entropy_plan(const CudaDevice *device, const CrossEntropy *rows) {
  return (CrossEntropyPlan){
      .logits = matrix_rows(rows->logits),
      .target = tensor_data(rows->target),
      .target_dtype = rows->target->dtype,
      .weight = rows->weight ? tensor_data(rows->weight) : NULL,
      .smoothing = rows->smoothing,
      .ignores = rows->ignored != NULL,
      .ignored = rows->ignored ? *rows->ignored : 0,
      .fault = device->mapped_fault,
  };
}

static void plan_gradient(CrossEntropyPlan *plan, Tensor *dlogits, const Tensor *dloss) {
  plan->dlogits = tensor_data(dlogits);
  plan->dloss = tensor_data(dloss);
  plan->dloss_stride = dloss->rank > 0 ? dloss->stride[0] : 0;
}

bool cuda_cross_entropy(Tensor *loss, Tensor *statistics, const CrossEntropy *rows) {
  CudaDevice *device = cuda_tensor_device(loss);
  if (!device) return false;
  CrossEntropyPlan plan = cross_entropy_plan(device, rows);
  plan.loss = tensor_data(loss);
  plan.statistics = tensor_data(statistics);
  return cuda_launched(device, launch_cross_entropy(device->launch, &plan), "cross_entropy kernel");
}

bool cuda_cross_entropy_backward(Tensor *dlogits, const CrossEntropy *rows, const Tensor *statistics,
                                 const Tensor *dloss) {
  CudaDevice *device = cuda_tensor_device(dlogits);
  if (!device) return false;
  CrossEntropyPlan plan = cross_entropy_plan(device, rows);
  plan.statistics = tensor_data(statistics);
  plan_gradient(&plan, dlogits, dloss);
  return cuda_launched(device, launch_cross_entropy_backward(device->launch, &plan), "cross_entropy_backward kernel");
}

bool cuda_cross_entropy_gradient(Tensor *loss, Tensor *dlogits, const CrossEntropy *rows, const Tensor *dloss) {
  CudaDevice *device = cuda_tensor_device(dlogits);
  if (!device) return false;
  CrossEntropyPlan plan = cross_entropy_plan(device, rows);
  plan.loss = tensor_data(loss);
  plan_gradient(&plan, dlogits, dloss);
  int words = cross_entropy_gradient_grid(&plan, device->launch.multiprocessors);
  return cuda_note_maxima(device, dlogits, words, &plan.maxima) &&
         cuda_launched(device, launch_cross_entropy_gradient(device->launch, &plan), "cross_entropy_gradient kernel");
}

/* --- the gradient as codes --- */

bool cuda_quantizes_cross_entropy(const QuantizeOutputs *outputs, const CrossEntropy *rows,
                                  const Quantizer *quantizer) {
  return !outputs->column_sum && cuda_quantizes_made(outputs, rows->logits, quantizer);
}

typedef struct CodesJob {
  const CudaDevice *device;
  CrossEntropyPlan rows;
  TransposePlan codes;
  Tensor statistics, maxima; /* scratch */
} CodesJob;

/* The loss, and the largest magnitude of the gradient. */
static bool measure(CodesJob *job) {
  CrossEntropyPlan *rows = &job->rows;
  int words = cross_entropy_gradient_grid(rows, job->device->launch.multiprocessors);
  if (!cuda_scratch(&job->statistics, job->device, 2 * rows->logits.rows * (int64_t)sizeof *rows->statistics) ||
      !cuda_scratch(&job->maxima, job->device, words * (int64_t)sizeof *rows->maxima)) {
    return false;
  }
  rows->statistics = tensor_data(&job->statistics);
  rows->maxima = tensor_data(&job->maxima);
  job->codes.maxima_count = words;
  return cuda_launched(job->device, launch_cross_entropy_gradient(job->device->launch, rows),
                       "cross_entropy_gradient kernel");
}

static bool write_codes(CodesJob *job, const Tensor *scale, const Tensor *history, HistoryRecord record) {
  TransposePlan *codes = &job->codes;
  if (history) {
    codes->quantize.known_scale = tensor_data(scale);
    if (!cuda_scale_from_history(job->device, scale, &codes->quantize, history, job->rows.maxima, codes->maxima_count,
                                 record)) {
      return false;
    }
  } else {
    codes->maxima = job->rows.maxima;
    codes->quantize.scale = tensor_data(scale);
  }
  return cuda_launched(job->device, launch_quantize_logits(job->device->launch, codes, &job->rows),
                       "quantize kernel") &&
         cuda_repeat_scale(job->device, scale);
}

bool cuda_quantize_cross_entropy(Tensor *loss, const QuantizeOutputs *outputs, const CrossEntropy *rows,
                                 const Tensor *dloss, const Quantizer *quantizer, Tensor *history,
                                 HistoryRecord record) {
  CudaDevice *device = cuda_tensor_device(loss);
  if (!device) return false;
  CodesJob job = {.device = device, .rows = cross_entropy_plan(device, rows)};
  job.rows.loss = tensor_data(loss);
  job.rows.dloss = tensor_data(dloss);
  job.rows.dloss_stride = dloss->rank > 0 ? dloss->stride[0] : 0;
  bool done = cuda_transpose_plan(&job.codes, device, outputs, rows->logits, quantizer) && measure(&job) &&
              write_codes(&job, outputs->scale, history, record);
  tensor_release(&job.statistics);
  tensor_release(&job.maxima);
  return done;
}
