/* Rotary position embedding. */
#include "attention/rotate.h"

#include "cuda/cuda.h"

bool cuda_rotate(Tensor *out, const Tensor *x, const Rotation *rotation) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  RotatePlan plan = {.dtype = x->dtype,
                     .out = tensor_data(out),
                     .x = tensor_data(x),
                     .outer = x->size[0],
                     .positions = x->size[1],
                     .inner = x->size[2],
                     .pairs = x->size[3] / 2,
                     .rotation = *rotation};
  return cuda_launched(device, launch_rotate(device->launch, &plan), "rotate kernel");
}
