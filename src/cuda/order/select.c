/* Counting flags, and their coordinates. */
#include "order/select.h"
#include "cuda/cuda.h"

static NonzeroPlan plan_of(Tensor *out, const Tensor *flags) {
  NonzeroPlan plan = {
      .flags = tensor_data(flags), .count = tensor_count(flags), .out = tensor_data(out), .rank = flags->rank};
  for (int d = 0; d < plan.rank; d++) plan.size[d] = flags->size[d];
  return plan;
}

bool cuda_count_flags(Tensor *count, const Tensor *flags) {
  CudaDevice *device = cuda_tensor_device(flags);
  if (!device) return false;
  NonzeroPlan plan = plan_of(count, flags);
  return cuda_launched(device, launch_count_flags(device->launch, &plan), "count kernel");
}

bool cuda_nonzero(Tensor *out, const Tensor *flags) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(flags);
  if (!device) return false;
  NonzeroPlan plan = plan_of(out, flags);
  size_t bytes = 0;
  Tensor scratch = {0};
  if (!cuda_launched(device, launch_nonzero(device->launch, &plan, NULL, &bytes), "nonzero kernel") ||
      !cuda_scratch(&scratch, device, (int64_t)bytes)) {
    return false;
  }
  cudaError_t error = launch_nonzero(device->launch, &plan, tensor_data(&scratch), &bytes);
  tensor_release(&scratch);
  return cuda_launched(device, error, "nonzero kernel");
}
