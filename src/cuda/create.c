/* Tensors made from numbers. */
#include "cuda/elementwise/plan.h"

bool cuda_fill(Tensor *out, Number number) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = number_operand(number);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  if (dtype_is_integer(out->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_convert(device->launch, &plan), "fill kernel");
}

bool cuda_arange(Tensor *out, Number start, Number step) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  cudaError_t error =
      launch_arange(device->launch, tensor_data(out), out->dtype, tensor_count(out), arange_rule(start, step));
  return cuda_launched(device, error, "arange kernel");
}
