/* Hadamard transforms. */
#include "cuda/cuda.h"
#include "quantize/quantize.h"

bool cuda_hadamard(Tensor *out, const Tensor *x, const HadamardRule *rule) {
  int64_t count = tensor_count(x), columns = x->rank > 0 ? x->size[x->rank - 1] : 1;
  if (count == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  HadamardPlan plan = {.rule = *rule,
                       .x = tensor_data(x),
                       .out = tensor_data(out),
                       .dtype = x->dtype,
                       .rows = count / columns,
                       .columns = columns};
  return cuda_launched(device, launch_hadamard(device->launch, &plan), "hadamard kernel");
}
