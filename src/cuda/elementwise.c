/* Elementwise arithmetic: chooses between float32 and 64-bit integers, and hands a plan to the kernels. */
#include "cuda/elementwise_plan.h"

static bool has_integers(Operand operand) { return !operand.tensor || is_integer(operand.tensor->dtype); }

bool cuda_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand input = tensor_operand(x);
  ElementwisePlan plan = elementwise_plan(out, &input, 1);
  bool whole = op == UNARY_NEG || op == UNARY_ABS || op == UNARY_RELU;
  if (whole && is_integer(out->dtype) && is_integer(x->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_unary(device->launch, &plan, op), "unary kernel");
}

/* Integers stay integers where every operand is one, a number being one if it has no fraction. */
static bool computes_in_integers(BinaryOp op, const Tensor *out, Operand a, Operand b) {
  if (op == BINARY_DIV || op == BINARY_POW || op >= BINARY_TANH_BACKWARD) return false;
  if (!is_integer(out->dtype) || !has_integers(a) || !has_integers(b)) return false;
  return (a.tensor || is_whole(a.number)) && (b.tensor || is_whole(b.number));
}

static bool is_comparison(BinaryOp op) { return op >= BINARY_EQ && op <= BINARY_GE; }

/* The comparison that says of (b, a) what `op` says of (a, b). */
static BinaryOp mirrored(BinaryOp op) {
  if (op == BINARY_LT) return BINARY_GT;
  if (op == BINARY_LE) return BINARY_GE;
  if (op == BINARY_GT) return BINARY_LT;
  return op == BINARY_GE ? BINARY_LE : op;
}

/* Whether every integer of 64 bits is below `number`, or every one above it. */
static bool is_beyond_integers(double number) { return number >= 0x1p63 || number < -0x1p63; }

/* The comparison that gives, with the integer nearest to such a number, what `op` gives with the number itself: the
 * same for all integers. */
static BinaryOp beyond_integers(BinaryOp op, double number) {
  if (number > 0) {
    bool holds = op == BINARY_NE || op == BINARY_LT || op == BINARY_LE;
    return holds ? BINARY_LE : BINARY_GT;
  }
  bool holds = op == BINARY_NE || op == BINARY_GT || op == BINARY_GE;
  return holds ? BINARY_GE : BINARY_LT;
}

bool cuda_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  if (is_comparison(op) && !a.tensor) {
    Operand number = a;
    a = b;
    b = number;
    op = mirrored(op);
  }
  bool beyond = is_comparison(op) && !b.tensor && is_integer(a.tensor->dtype) && is_beyond_integers(b.number);
  if (beyond) op = beyond_integers(op, b.number);
  if (op == BINARY_POW && !b.tensor && b.number == 2) { /* exact, and much faster */
    op = BINARY_MUL;
    b = a;
  }
  Operand inputs[] = {a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 2);
  if (beyond || computes_in_integers(op, out, a, b)) plan_integers(&plan);
  return cuda_launched(device, launch_binary(device->launch, &plan, op), "binary kernel");
}

bool cuda_where(Tensor *out, const Tensor *condition, Operand a, Operand b) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(condition), a, b};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (is_integer(out->dtype) && has_integers(a) && has_integers(b)) plan_integers(&plan);
  return cuda_launched(device, launch_where(device->launch, &plan), "where kernel");
}

bool cuda_clamp(Tensor *out, const Tensor *x, double low, double high) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  Operand inputs[] = {tensor_operand(x), number_operand(low), number_operand(high)};
  ElementwisePlan plan = elementwise_plan(out, inputs, 3);
  if (is_integer(out->dtype) && is_integer(x->dtype)) plan_integers(&plan);
  return cuda_launched(device, launch_clamp(device->launch, &plan), "clamp kernel");
}
