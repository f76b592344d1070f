/* Softmax and cross entropy over the rows of contiguous tensors. */
#include "internal.h"

/* The last dimension as columns, all others as rows. */
static Rows rows_of(const Tensor *tensor) {
  Rows rows = {
      .data = tensor_data(tensor), .dtype = tensor->dtype, .rows = 1, .columns = tensor->size[tensor->rank - 1]};
  for (int d = 0; d < tensor->rank - 1; d++) rows.rows *= tensor->size[d];
  return rows;
}

bool cuda_softmax(Tensor *out, const Tensor *x, bool logarithm) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  return cuda_check(launch_softmax(device->launch, rows_of(out), rows_of(x), logarithm), "softmax kernel");
}

bool cuda_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, bool logarithm) {
  CudaDevice *device = cuda_tensor_device(dx);
  if (!device) return false;
  cudaError_t error = launch_softmax_backward(device->launch, rows_of(dx), rows_of(dy), rows_of(y), logarithm);
  return cuda_check(error, "softmax_backward kernel");
}

bool cuda_cross_entropy(Tensor *loss, const Tensor *logits, const Tensor *target) {
  CudaDevice *device = cuda_tensor_device(loss);
  if (!device) return false;
  cudaError_t error = launch_cross_entropy(device->launch, tensor_data(loss), rows_of(logits), tensor_data(target),
                                           target->dtype, device->mapped_fault);
  return cuda_check(error, "cross_entropy kernel");
}

bool cuda_cross_entropy_backward(Tensor *dlogits, const Tensor *logits, const Tensor *target, const Tensor *dloss) {
  CudaDevice *device = cuda_tensor_device(dlogits);
  if (!device) return false;
  int64_t dloss_stride = dloss->rank > 0 ? dloss->stride[0] : 0;
  cudaError_t error =
      launch_cross_entropy_backward(device->launch, rows_of(dlogits), rows_of(logits), tensor_data(target),
                                    target->dtype, tensor_data(dloss), dloss_stride, device->mapped_fault);
  return cuda_check(error, "cross_entropy_backward kernel");
}
