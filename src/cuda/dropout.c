/* Dropout. */
#include "cuda/cuda.h"

bool cuda_dropout(Tensor *out, const Tensor *x, float probability, RandomSource source) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  cudaError_t error =
      launch_dropout(device->launch, tensor_data(out), tensor_data(x), x->dtype, tensor_count(x), probability, source);
  return cuda_launched(device, error, "dropout kernel");
}
