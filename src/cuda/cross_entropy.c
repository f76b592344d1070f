/* Cross entropy over the rows of contiguous tensors. */
#include "cuda/measure.h"

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
