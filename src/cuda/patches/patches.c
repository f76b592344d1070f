/* Patches of images, and their sums. */
#include "patches/patches.h"

#include "cuda/cuda.h"

static PatchesPlan plan_of(const Tensor *x, const Tensor *patches, const Window *window) {
  PatchesPlan plan = {.window = *window, .images = x->size[0], .channels = x->size[1]};
  for (int d = 0; d < 6; d++) plan.stride[d] = patches->stride[d];
  return plan;
}

bool cuda_unfold(Tensor *out, const Tensor *x, const Window *window) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  PatchesPlan plan = plan_of(x, out, window);
  bool side_by_side = out->stride[5] == 1 || window->x.output * window->y.output == 1;
  const int bytes = (int)dtype_size(x->dtype);
  cudaError_t error = side_by_side ? launch_unfold(device->launch, tensor_data(out), tensor_data(x), bytes, &plan)
                                   : launch_unfold_rows(device->launch, tensor_data(out), tensor_data(x), bytes, &plan);
  return cuda_launched(device, error, "unfold kernel");
}

bool cuda_fold(Tensor *out, const Tensor *patches, const Window *window) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  PatchesPlan plan = plan_of(out, patches, window);
  cudaError_t error = launch_fold(device->launch, tensor_data(out), tensor_data(patches), out->dtype, &plan);
  return cuda_launched(device, error, "fold kernel");
}
