/* Cross entropy over the rows of contiguous tensors. */
#include "cuda/cuda.h"

static CrossEntropyPlan cross_entropy_plan(const CudaDevice *device, const Tensor *logits, const Tensor *target,
                                           const Tensor *statistics) {
  return (CrossEntropyPlan){
      .logits = matrix_rows(logits),
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
  return cuda_launched(device, launch_cross_entropy(device->launch, &plan), "cross_entropy kernel");
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
  return cuda_launched(device, launch_cross_entropy_backward(device->launch, &plan), "cross_entropy_backward kernel");
}
