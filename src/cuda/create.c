/* Tensors made from numbers. */
#include "cuda/elementwise_plan.h"

bool cuda_fill(Tensor *out, double number) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = number_operand(number);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  if (is_integer(out->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_convert(device->launch, &plan), "fill kernel");
}

bool cuda_arange(Tensor *out, double start, double step) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  int64_t count = tensor_count(out);
  bool exact = is_integer(out->dtype) && is_whole(start) && is_whole(step);
  cudaError_t error =
      exact ? launch_arange_exact(device->launch, tensor_data(out), out->dtype, count, (int64_t)start, (int64_t)step)
            : launch_arange(device->launch, tensor_data(out), out->dtype, count, start, step);
  return cuda_launched(device, error, "arange kernel");
}
