/* Copies and conversions. */
#include "cuda/elementwise/plan.h"

/* Elements that lie side by side in both operands may be moved in words of up to 16 bytes. */
static int widen_words(ElementwisePlan *plan, int64_t element) {
  int inner = plan->rank - 1;
  int64_t word = element;
  if (plan->operand[0].stride[inner] != 1 || plan->operand[1].stride[inner] != 1) return (int)word;
  for (word = 16; word > element; word /= 2) {
    bool fits = plan->size[inner] * element % word == 0;
    for (int k = 0; k < 2; k++) {
      fits = fits && is_aligned(plan->operand[k].data, word);
      for (int d = 0; d < inner; d++) fits = fits && plan->operand[k].stride[d] * element % word == 0;
    }
    if (fits) break;
  }
  int64_t ratio = word / element;
  plan->size[inner] /= ratio;
  plan->count /= ratio;
  for (int d = 0; d < inner; d++) {
    for (int k = 0; k < 2; k++) plan->operand[k].stride[d] /= ratio;
  }
  return (int)word;
}

/* True, with the plan brought to rank 3, if the output runs along the last dimension and the input along the one
 * before. */
static bool is_transpose(ElementwisePlan *plan) {
  enum { WORTHWHILE = 8 };
  int last = plan->rank - 1;
  if (plan->rank < 2 || plan->rank > 3) return false;
  if (plan->operand[0].stride[last] != 1 || plan->operand[1].stride[last] == 1) return false;
  if (plan->operand[1].stride[last - 1] != 1) return false;
  if (plan->size[last] < WORTHWHILE || plan->size[last - 1] < WORTHWHILE) return false;
  if (plan->rank == 2) {
    for (int d = 2; d > 0; d--) {
      plan->size[d] = plan->size[d - 1];
      for (int k = 0; k < 2; k++) plan->operand[k].stride[d] = plan->operand[k].stride[d - 1];
    }
    plan->size[0] = 1;
    for (int k = 0; k < 2; k++) plan->operand[k].stride[0] = 0;
    plan->rank = 3;
  }
  return true;
}

static bool copy_same_dtype(CudaDevice *device, Tensor *out, const Tensor *src, ElementwisePlan *plan) {
  int64_t element = dtype_size(out->dtype);
  bool together = tensor_is_contiguous(out) && tensor_is_contiguous(src);
  if (together && tensor_data(out) == tensor_data(src)) return true;
  /* A graph of nothing but kernels is launched much faster. */
  if (together && !device->capturing) {
    cudaError_t error = cudaMemcpyAsync(tensor_data(out), tensor_data(src), (size_t)(plan->count * element),
                                        cudaMemcpyDeviceToDevice, device->launch.stream);
    return cuda_check(error, "cudaMemcpyAsync");
  }
  if (is_transpose(plan))
    return cuda_launched(device, launch_transpose_words(device->launch, plan, (int)element), "transpose kernel");
  int word = widen_words(plan, element);
  return cuda_launched(device, launch_copy_words(device->launch, plan, word), "copy kernel");
}

bool cuda_copy(Tensor *out, const Tensor *src, bool saturate) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = tensor_operand(src);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  if (out->dtype == src->dtype) return copy_same_dtype(device, out, src, &plan);
  plan.saturate = saturate;
  if (dtype_is_integer(out->dtype) && dtype_is_integer(src->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_convert(device->launch, &plan), "convert kernel");
}
