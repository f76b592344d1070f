/* Quantization of activation functions and of their gradients, which are not written themselves. */
#include "cuda/measure.h"
#include "cuda/quantize/plan.h"
#include "elementwise/elementwise.h"

static bool suits(const Tensor *x) {
  enum { BYTES = 16 };
  return tensor_is_contiguous(x) && is_aligned(tensor_data(x), BYTES);
}

bool cuda_quantizes_made(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer) {
  enum { SIDE = 16 };
  int64_t count = tensor_count(x), columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  bool formatted =
      !quantizer->map && quantizer->rule.rounding != SCALE_E4M3 && !quantizer->stochastic && !outputs->values;
  bool one_scale = quantizer->tile_rows == 0 && quantizer->blocksize >= count;
  if (!formatted || !one_scale || (x->dtype != DTYPE_F16 && x->dtype != DTYPE_BF16)) return false;
  return count >= cuda_least_noted && columns % SIDE == 0 && count / columns % SIDE == 0 && suits(x);
}

bool cuda_quantizes_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer) {
  if (!cuda_quantizes_made(outputs, source->x, quantizer)) return false;
  return source->grad ? suits(source->grad) : !outputs->column_sum;
}

typedef struct ActivatedJob {
  CudaDevice *device;
  UnaryOp op;
  TransposePlan plan;
  Tensor maxima, found, partials; /* scratch */
} ActivatedJob;

static bool words(const CudaDevice *device, Tensor *scratch, int count, uint32_t **data) {
  if (!cuda_scratch(scratch, device, count * (int64_t)sizeof **data)) return false;
  *data = tensor_data(scratch);
  return true;
}

/* The largest magnitude, where no history gives the scale. */
static bool measure(ActivatedJob *job) {
  TransposePlan *plan = &job->plan;
  ActivationPlan pass = {.op = job->op,
                         .dtype = plan->quantize.dtype,
                         .x = plan->quantize.x,
                         .grad = plan->grad,
                         .rows = plan->rows,
                         .across = plan->columns / 8,
                         .history = plan->history,
                         .history_length = plan->history_length};
  plan->maxima_count = activation_grid(&pass, job->device->launch.multiprocessors);
  if (!words(job->device, &job->maxima, plan->maxima_count, &pass.maxima)) return false;
  plan->maxima = pass.maxima;
  return cuda_launched(job->device, launch_activation(job->device->launch, &pass), "absmax kernel");
}

/* Gradients come with column sums, wanted or not. */
static bool quantize(ActivatedJob *job, Tensor *sum) {
  TransposePlan *plan = &job->plan;
  int64_t rows = divide_up(plan->rows, TRANSPOSE_ROWS);
  if (plan->grad) {
    if (!cuda_scratch(&job->partials, job->device, rows * plan->columns * (int64_t)sizeof *plan->partials))
      return false;
    plan->partials = tensor_data(&job->partials);
  }
  return cuda_launched(job->device, launch_quantize_activated(job->device->launch, plan, job->op), "quantize kernel") &&
         (!sum || cuda_finish_sum(job->device, sum, plan->partials, rows, plan->columns));
}

static bool run(ActivatedJob *job, const QuantizeOutputs *outputs, Tensor *history, HistoryRecord rule) {
  TransposePlan *plan = &job->plan;
  if (!measure(job)) return false;
  if (!history) return quantize(job, outputs->column_sum);
  int found = quantize_activated_grid(job->device->launch, plan, job->op);
  return words(job->device, &job->found, found, &plan->found) && quantize(job, outputs->column_sum) &&
         cuda_scale_from_history(job->device, outputs->scale, &plan->quantize, history, plan->found, found, rule);
}

bool cuda_quantize_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer,
                             Tensor *history, HistoryRecord rule) {
  ActivatedJob job = {.device = cuda_tensor_device(source->x), .op = source->op};
  TransposePlan *plan = &job.plan;
  if (!job.device || !cuda_transpose_plan(plan, job.device, outputs, source->x, quantizer)) return false;
  plan->grad = source->grad ? tensor_data(source->grad) : NULL;
  if (history) {
    plan->history = tensor_data(history);
    plan->history_length = tensor_count(history);
  } else {
    plan->quantize.scale = tensor_data(outputs->scale);
  }
  bool done = run(&job, outputs, history, rule) && cuda_repeat_scale(job.device, outputs->scale);
  tensor_release(&job.maxima);
  tensor_release(&job.found);
  tensor_release(&job.partials);
  return done;
}
