/* Pooling. */
#include "cuda/cuda.h"
#include "patches/patches.h"

static PoolPlan plan_of(Tensor *out, const Tensor *in, const Tensor *index, const PoolRule *rule) {
  return (PoolPlan){.rule = *rule,
                    .out = tensor_data(out),
                    .in = tensor_data(in),
                    .index = index ? tensor_data(index) : NULL,
                    .dtype = out->dtype,
                    .planes = out->size[0] * out->size[1]};
}

bool cuda_pool(Tensor *out, Tensor *index, const Tensor *x, const PoolRule *rule) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  PoolPlan plan = plan_of(out, x, index, rule);
  return cuda_launched(device, launch_pool(device->launch, &plan), "pool kernel");
}

bool cuda_pool_backward(Tensor *dx, const Tensor *dy, const Tensor *index, const PoolRule *rule) {
  if (tensor_count(dx) == 0) return true;
  CudaDevice *device = cuda_tensor_device(dx);
  if (!device) return false;
  PoolPlan plan = plan_of(dx, dy, index, rule);
  return cuda_launched(device, launch_pool_backward(device->launch, &plan), "pool backward kernel");
}
