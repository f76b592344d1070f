/* Softmax, cross entropy and normalization over the rows of contiguous tensors, and dropout. */
#include "measure.h"

/* The last dimension as columns, all others as rows. */
static Rows rows_of(const Tensor *tensor) {
  Rows rows = {
      .data = tensor_data(tensor), .dtype = tensor->dtype, .rows = 1, .columns = tensor->size[tensor->rank - 1]};
  for (int d = 0; d < tensor->rank - 1; d++) rows.rows *= tensor->size[d];
  return rows;
}

/* The rows of a matrix, where a rule cares. */
static int64_t queries_of(const Tensor *tensor, SoftmaxRule rule) {
  return rule.causal ? tensor->size[tensor->rank - 2] : 1;
}

bool cuda_softmax(Tensor *out, const Tensor *x, SoftmaxRule rule) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_check(launch_softmax(device->launch, rows_of(out), rows_of(x), rule, queries_of(x, rule)),
                    "softmax kernel");
}

bool cuda_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule) {
  CudaDevice *device = cuda_tensor_device(dx);
  if (!device) return false;
  cudaError_t error =
      launch_softmax_backward(device->launch, rows_of(dx), rows_of(dy), rows_of(y), rule, queries_of(y, rule));
  return cuda_check(error, "softmax_backward kernel");
}

static CrossEntropyPlan cross_entropy_plan(const CudaDevice *device, const Tensor *logits, const Tensor *target,
                                           const Tensor *statistics) {
  return (CrossEntropyPlan){
      .logits = rows_of(logits),
      .target = tensor_data(target),
      .target_dtype = target->dtype,
      .statistics = tensor_data(statistics),
      .fault = device->mapped_fault,
  };
}

bool cuda_cross_entropy(Tensor *loss, Tensor *statistics, const Tensor *logits, const Tensor *target) {
  CudaDevice *device = cuda_tensor_device(loss);
  if (!device) return false;
  CrossEntropyPlan plan = cross_entropy_plan(device, logits, target, statistics);
  plan.loss = tensor_data(loss);
  return cuda_check(launch_cross_entropy(device->launch, &plan), "cross_entropy kernel");
}

bool cuda_cross_entropy_backward(Tensor *dlogits, const Tensor *logits, const Tensor *target, const Tensor *statistics,
                                 const Tensor *dloss) {
  CudaDevice *device = cuda_tensor_device(dlogits);
  if (!device) return false;
  CrossEntropyPlan plan = cross_entropy_plan(device, logits, target, statistics);
  plan.dlogits = tensor_data(dlogits);
  plan.dlogits_dtype = dlogits->dtype;
  plan.dloss = tensor_data(dloss);
  plan.dloss_stride = dloss->rank > 0 ? dloss->stride[0] : 0;
  return cuda_check(launch_cross_entropy_backward(device->launch, &plan), "cross_entropy_backward kernel");
}

static NormalizeParameter parameter_of(const Tensor *tensor) {
  if (!tensor) return (NormalizeParameter){0};
  return (NormalizeParameter){tensor_data(tensor), tensor->dtype};
}

bool cuda_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Tensor *x, const Tensor *weight,
                    const Tensor *bias, float epsilon) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  NormalizePlan plan = {
      .x = rows_of(x),
      .out = tensor_data(out),
      .weight = parameter_of(weight),
      .bias = parameter_of(bias),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(inverse),
      .epsilon = epsilon,
  };
  return cuda_check(launch_normalize(device->launch, &plan), "normalize kernel");
}

/* Room for partial sums of `gradient`, if that is wanted. */
static bool partial_sums(Tensor *partials, float **data, const Tensor *gradient, const CudaDevice *device,
                         int64_t rows) {
  if (!gradient) return true;
  if (!cuda_scratch(partials, device, rows * tensor_count(gradient) * (int64_t)sizeof(float))) return false;
  *data = tensor_data(partials);
  return true;
}

bool cuda_normalize_backward(const NormalizeGradients *gradients, const Tensor *dy, const Tensor *x, const Tensor *mean,
                             const Tensor *inverse, const Tensor *weight) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  NormalizeBackwardPlan plan = {
      .x = rows_of(x),
      .dy = tensor_data(dy),
      .dy_dtype = dy->dtype,
      .dx = gradients->x ? tensor_data(gradients->x) : NULL,
      .addend = gradients->addend ? tensor_data(gradients->addend) : NULL,
      .weight = parameter_of(weight),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(inverse),
  };
  normalize_backward_shape(&plan, device->launch.multiprocessors);
  Tensor weight_sums = {0}, bias_sums = {0};
  bool done = partial_sums(&weight_sums, &plan.weight_partials, gradients->weight, device, plan.partial_rows) &&
              partial_sums(&bias_sums, &plan.bias_partials, gradients->bias, device, plan.partial_rows) &&
              cuda_check(launch_normalize_backward(device->launch, &plan), "normalize_backward kernel");
  for (int i = 0; i < 2 && done; i++) {
    Tensor *sum = i == 0 ? gradients->weight : gradients->bias;
    const float *partials = i == 0 ? plan.weight_partials : plan.bias_partials;
    done = !sum || cuda_finish_sum(device, sum, partials, plan.partial_rows, plan.x.columns);
  }
  tensor_release(&weight_sums);
  tensor_release(&bias_sums);
  return done;
}

bool cuda_dropout(Tensor *out, const Tensor *x, float probability, RandomSource source) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  cudaError_t error =
      launch_dropout(device->launch, tensor_data(out), tensor_data(x), x->dtype, tensor_count(x), probability, source);
  return cuda_check(error, "dropout kernel");
}
