/* Elementwise arithmetic: chooses between float32 and 64-bit integers, and hands a plan to the kernels. */
#include "cuda/elementwise/plan.h"

bool cuda_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = tensor_operand(x);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  if (keeps_integers(unary_class(op)) && dtype_is_integer(out->dtype) && dtype_is_integer(x->dtype))
    plan_integers(&plan);
  plan.wrap = plan.integer;
  return cuda_launched(device, launch_unary(device->launch, &plan, op), "unary kernel");
}

bool cuda_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  if (op == BINARY_POW && !b.tensor && b.number.value == 2) { /* exact, and much faster */
    op = BINARY_MUL;
    b = a;
  }
  Operand inputs[] = {a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 2);
  bool integer = keeps_integers(binary_class(op)) && dtype_is_integer(out->dtype);
  if (integer && operand_is_integer(a) && operand_is_integer(b)) plan_integers(&plan);
  plan.wrap = plan.integer;
  return cuda_launched(device, launch_binary(device->launch, &plan, op), "binary kernel");
}

bool cuda_where(Tensor *out, const Tensor *condition, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(condition), a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (dtype_is_integer(out->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_where(device->launch, &plan), "where kernel");
}

bool cuda_clamp(Tensor *out, const Tensor *x, Number low, Number high) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(x), number_operand(low), number_operand(high)};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (dtype_is_integer(out->dtype) && dtype_is_integer(x->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_clamp(device->launch, &plan), "clamp kernel");
}

bool cuda_scale(Tensor *x, const Tensor *factor) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  cudaError_t error = launch_scale(device->launch, tensor_data(x), x->dtype, tensor_count(x), tensor_data(factor));
  return cuda_launched(device, error, "scale kernel");
}
