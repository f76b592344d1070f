/* Softmax over the rows of contiguous tensors. */
#include "cuda/cuda.h"

/* The rows of a matrix, where a rule cares. */
static int64_t queries_of(const Tensor *tensor, SoftmaxRule rule) {
  return rule.causal ? tensor->size[tensor->rank - 2] : 1;
}

bool cuda_softmax(Tensor *out, const Tensor *x, SoftmaxRule rule) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_launched(device,
                       launch_softmax(device->launch, matrix_rows(out), matrix_rows(x), rule, queries_of(x, rule)),
                       "softmax kernel");
}

bool cuda_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule) {
  CudaDevice *device = cuda_tensor_device(dx);
  if (!device) return false;
  cudaError_t error = launch_softmax_backward(device->launch, matrix_rows(dx), matrix_rows(dy), matrix_rows(y), rule,
                                              queries_of(y, rule));
  return cuda_launched(device, error, "softmax_backward kernel");
}
