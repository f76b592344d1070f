/* Elementwise arithmetic: chooses between float32 and 64-bit integers, and hands a plan to the kernels. */
#include "internal.h"
#include "plan.h"

static bool has_integers(Operand operand) { return !operand.tensor || is_integer(operand.tensor->dtype); }

bool cuda_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = tensor_operand(x);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  bool whole = op == UNARY_NEG || op == UNARY_ABS || op == UNARY_RELU;
  if (whole && is_integer(out->dtype) && is_integer(x->dtype)) plan_integers(&plan);
  return cuda_check(launch_unary(device->launch, &plan, op), "unary kernel");
}

/* Integers stay integers where every operand is one, a number being one if it has no fraction. */
static bool computes_in_integers(BinaryOp op, const Tensor *out, Operand a, Operand b) {
  if (op == BINARY_DIV || op == BINARY_POW || op >= BINARY_TANH_BACKWARD) return false;
  if (!is_integer(out->dtype) || !has_integers(a) || !has_integers(b)) return false;
  return (a.tensor || is_whole(a.number)) && (b.tensor || is_whole(b.number));
}

bool cuda_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  if (op == BINARY_POW && !b.tensor && b.number == 2) { /* exact, and much faster */
    op = BINARY_MUL;
    b = a;
  }
  Operand inputs[] = {a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 2);
  if (computes_in_integers(op, out, a, b)) plan_integers(&plan);
  return cuda_check(launch_binary(device->launch, &plan, op), "binary kernel");
}

bool cuda_where(Tensor *out, const Tensor *condition, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(condition), a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (is_integer(out->dtype) && has_integers(a) && has_integers(b)) plan_integers(&plan);
  return cuda_check(launch_where(device->launch, &plan), "where kernel");
}

bool cuda_clamp(Tensor *out, const Tensor *x, double low, double high) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(x), number_operand(low), number_operand(high)};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (is_integer(out->dtype) && is_integer(x->dtype)) plan_integers(&plan);
  return cuda_check(launch_clamp(device->launch, &plan), "clamp kernel");
}
