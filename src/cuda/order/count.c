/* Counting elements in bins. */
#include "order/count.h"
#include "cuda/cuda.h"

bool cuda_histogram(Tensor *counts, const Tensor *x, const Tensor *edges) {
  CudaDevice *device = cuda_tensor_device(counts);
  if (!device || !cuda_fill(counts, number_of(0))) return false;
  HistogramPlan plan = {.counts = tensor_data(counts),
                        .x = tensor_data(x),
                        .dtype = x->dtype,
                        .count = tensor_count(x),
                        .bins = counts->size[0],
                        .edges = edges ? tensor_data(edges) : NULL};
  return cuda_launched(device, launch_histogram(device->launch, &plan), "histogram kernel");
}
