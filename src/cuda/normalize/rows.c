/* Normalization over the rows of contiguous tensors. */
#include "normalize/normalize.h"

#include "cuda/measure.h"

static NormalizeParameter parameter_of(const Tensor *tensor) {
  if (!tensor) return (NormalizeParameter){0};
  return (NormalizeParameter){tensor_data(tensor), tensor->dtype};
}

bool cuda_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Tensor *sum = normalization->sum;
  NormalizePlan plan = {
      .x = matrix_rows(normalization->x),
      .addend = sum ? tensor_data(normalization->addend) : NULL,
      .sum = sum ? tensor_data(sum) : NULL,
      .out = tensor_data(out),
      .weight = parameter_of(normalization->weight),
      .bias = parameter_of(normalization->bias),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(inverse),
      .epsilon = (float)normalization->epsilon,
  };
  int words = normalize_grid(&plan, device->launch.multiprocessors);
  if (sum && words == 0) {
    Operand first = {.tensor = normalization->x}, second = {.tensor = normalization->addend};
    if (!cuda_binary(BINARY_ADD, sum, first, second)) return false;
    plan.x = matrix_rows(sum);
    plan.addend = plan.sum = NULL;
  }
  return cuda_note_maxima(device, out, words, &plan.maxima) &&
         cuda_launched(device, launch_normalize(device->launch, &plan), "normalize kernel");
}

/* Room for partial sums of `gradient`, if that is wanted. */
static bool partial_sums(Tensor *partials, float **data, const Tensor *gradient, const CudaDevice *device,
                         int64_t rows) {
  if (!gradient) return true;
  if (!cuda_scratch(partials, device, rows * tensor_count(gradient) * (int64_t)sizeof(float))) return false;
  *data = tensor_data(partials);
  return true;
}

bool cuda_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward) {
  const Tensor *addend = backward->addend, *mean = backward->mean;
  CudaDevice *device = cuda_tensor_device(backward->x);
  if (!device) return false;
  NormalizeBackwardPlan plan = {
      .x = matrix_rows(backward->x),
      .dy = tensor_data(backward->dy),
      .dy_dtype = backward->dy->dtype,
      .dx = gradients->x ? tensor_data(gradients->x) : NULL,
      .addend = addend ? tensor_data(addend) : NULL,
      .weight = parameter_of(backward->weight),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(backward->inverse),
  };
  normalize_backward_shape(&plan, device->launch.multiprocessors);
  Tensor weight_sums = {0}, bias_sums = {0};
  bool measures = gradients->x && plan.held;
  bool done = (!measures || cuda_note_maxima(device, gradients->x, plan.partial_rows, &plan.maxima)) &&
              partial_sums(&weight_sums, &plan.weight_partials, gradients->weight, device, plan.partial_rows) &&
              partial_sums(&bias_sums, &plan.bias_partials, gradients->bias, device, plan.partial_rows) &&
              cuda_launched(device, launch_normalize_backward(device->launch, &plan), "normalize_backward kernel");
  for (int i = 0; i < 2 && done; i++) {
    Tensor *sum = i == 0 ? gradients->weight : gradients->bias;
    const float *partials = i == 0 ? plan.weight_partials : plan.bias_partials;
    done = !sum || cuda_finish_sum(device, sum, partials, plan.partial_rows, plan.x.columns);
  }
  tensor_release(&weight_sums);
  tensor_release(&bias_sums);
  return done;
}
