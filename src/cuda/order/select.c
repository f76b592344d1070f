/* Counting flags, and their coordinates. */
#include "order/select.h"
#include "cuda/cuda.h"

/* Runs a plan, whose results are set, on flags. */
static bool run(NonzeroPlan plan, const Tensor *flags) {
  CudaDevice *device = cuda_tensor_device(flags);
  if (!device) return false;
  plan.flags = tensor_data(flags);
  plan.count = tensor_count(flags);
  plan.rank = flags->rank;
  for (int d = 0; d < plan.rank; d++) plan.size[d] = flags->size[d];
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

bool cuda_count_flags(Tensor *count, const Tensor *flags) {
  return run((NonzeroPlan){.total = tensor_data(count)}, flags);
}

bool cuda_nonzero(Tensor *out, const Tensor *flags) {
  return tensor_count(out) == 0 || run((NonzeroPlan){.out = tensor_data(out)}, flags);
}
