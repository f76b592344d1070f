/* Running sums and products along the middle dimension of (outer, n, inner). */
#include "order/scan.h"

#include "cuda/cuda.h"

bool cuda_scan(Tensor *out, const Tensor *x, ScanRule rule) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  if (tensor_count(x) == 0) return true;
  ScanPlan plan = {.rule = rule,
                   .out = tensor_data(out),
                   .x = tensor_data(x),
                   .dtype = x->dtype,
                   .outer = x->size[0],
                   .n = x->size[1],
                   .inner = x->size[2]};
  scan_shape(&plan);
  Tensor starts = {0};
  if (plan.slices > 1) {
    if (!cuda_scratch(&starts, device, plan.outer * plan.slices * plan.inner * SCAN_STATE_BYTES)) return false;
    plan.starts = tensor_data(&starts);
  }
  cudaError_t error = launch_scan(device->launch, &plan);
  tensor_release(&starts);
  return cuda_launched(device, error, "scan kernel");
}
