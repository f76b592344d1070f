/* Random draws. */
#include "cuda/cuda.h"

bool cuda_random(Tensor *out, const RandomDraw *draw) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  cudaError_t error = launch_random(device->launch, tensor_data(out), out->dtype, tensor_count(out), draw);
  return cuda_launched(device, error, "random kernel");
}
