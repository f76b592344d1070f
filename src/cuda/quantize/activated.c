/* Quantization of activation functions and of their gradients, which are not written themselves. */
#include "cuda/measure.h"
#include "cuda/quantize/plan.h"
#include "elementwise/elementwise.h"

enum { VECTOR = 16 }; /* bytes, and the sides of a matrix are multiples of as many elements */

static bool suits(const Tensor *x) { return tensor_is_contiguous(x) && is_aligned(tensor_data(x), VECTOR); }

/* Of a large matrix, one scale and a hardware format: what the kernel takes that writes transposed codes. */
bool cuda_quantizes_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer) {
  const Tensor *x = source->x;
  int64_t count = tensor_count(x), columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  bool formatted = !quantizer->map && !quantizer->stochastic && !outputs->values;
  bool one_scale = quantizer->tile_rows == 0 && quantizer->blocksize >= count;
  if (!formatted || !one_scale || (outputs->column_sum && !source->grad)) return false;
  if ((x->dtype != DTYPE_F16 && x->dtype != DTYPE_BF16) || count < cuda_least_noted) return false;
  return columns % VECTOR == 0 && count / columns % VECTOR == 0 && suits(x) && (!source->grad || suits(source->grad));
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

/* The scale once more, NaN for what is not finite, and the history. */
static bool record(const ActivatedJob *job, Tensor *scale, Tensor *history, int found, HistoryRecord record) {
  const QuantizePlan *plan = &job->plan.quantize;
  DelayedPlan delayed = {.scale = tensor_data(scale),
                         .history = tensor_data(history),
                         .length = tensor_count(history),
                         .maxima = job->plan.found,
                         .maxima_count = found,
                         .format = plan->format,
                         .scale_rounding = plan->scale_rounding,
                         .record = record};
  return cuda_launched(job->device, launch_delayed_scale(job->device->launch, &delayed), "delayed scale kernel");
}

static bool run(ActivatedJob *job, const QuantizeOutputs *outputs, Tensor *history, HistoryRecord rule) {
  TransposePlan *plan = &job->plan;
  if (!measure(job)) return false;
  if (!history) return quantize(job, outputs->column_sum);
  int found = quantize_activated_grid(job->device->launch, plan, job->op);
  return words(job->device, &job->found, found, &plan->found) && quantize(job, outputs->column_sum) &&
         record(job, outputs->scale, history, found, rule);
}

bool cuda_quantize_activated(const QuantizeOutputs *outputs, const Activated *source, const Quantizer *quantizer,
                             Tensor *history, HistoryRecord rule) {
  const Tensor *x = source->x;
  ActivatedJob job = {.device = cuda_tensor_device(x), .op = source->op};
  TransposePlan *plan = &job.plan;
  if (!job.device || !cuda_quantize_plan(&plan->quantize, job.device, quantizer, tensor_count(x))) return false;
  plan->quantize.x = tensor_data(x);
  plan->quantize.dtype = x->dtype;
  plan->columns = x->size[x->rank - 1];
  plan->rows = tensor_count(x) / plan->columns;
  plan->grad = source->grad ? tensor_data(source->grad) : NULL;
  if (outputs->codes) plan->quantize.codes = tensor_data(outputs->codes);
  if (outputs->transposed) plan->transposed = tensor_data(outputs->transposed);
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
