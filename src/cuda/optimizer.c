/* Optimizer steps on contiguous tensors. */
#include "internal.h"

bool cuda_sgd(Tensor *parameter, const Tensor *grad, Tensor *buffer, const SgdStep *step) {
  CudaDevice *device = cuda_tensor_device(parameter);
  if (!device) return false;
  cudaError_t error = launch_sgd(device->launch, tensor_data(parameter), parameter->dtype, tensor_data(grad),
                                 grad->dtype, buffer ? tensor_data(buffer) : NULL, tensor_count(parameter), *step,
                                 step->live ? tensor_data(step->live) : NULL);
  return cuda_check(error, "sgd kernel");
}

bool cuda_adamw(Tensor *parameter, const Tensor *grad, Tensor *m, Tensor *v, const AdamwStep *step) {
  CudaDevice *device = cuda_tensor_device(parameter);
  if (!device) return false;
  cudaError_t error = launch_adamw(device->launch, tensor_data(parameter), parameter->dtype, tensor_data(grad),
                                   grad->dtype, tensor_data(m), tensor_data(v), tensor_count(parameter), *step,
                                   step->live ? tensor_data(step->live) : NULL);
  return cuda_check(error, "adamw kernel");
}

bool cuda_store_fields(Tensor *out, const float *fields) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_check(launch_store_fields(device->launch, tensor_data(out), fields, (int)tensor_count(out)),
                    "store kernel");
}
