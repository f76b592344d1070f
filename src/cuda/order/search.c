/* Searching in ascending lists. */
#include "order/search.h"
#include "cuda/cuda.h"

bool cuda_searchsorted(Tensor *out, const Tensor *sorted, const Tensor *values, bool right) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  SearchPlan plan = {.out = tensor_data(out),
                     .sorted = tensor_data(sorted),
                     .values = tensor_data(values),
                     .integers = sorted->dtype == DTYPE_I64,
                     .dtype = values->dtype,
                     .count = tensor_count(values),
                     .columns = values->size[1],
                     .length = sorted->size[1],
                     .right = right};
  return cuda_launched(device, launch_searchsorted(device->launch, &plan), "searchsorted kernel");
}
