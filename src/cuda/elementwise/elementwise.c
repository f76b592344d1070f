/* Elementwise arithmetic: chooses between float32 and 64-bit integers, and hands a plan to the kernels. */
#include "cuda/elementwise/plan.h"
#include "cuda/measure.h"

/* --- activation functions of contiguous 16-bit tensors, by kernels of their own --- */

/* The function that a binary operation is the gradient of; UNARY_NEG for the others. */
static UnaryOp activation_of(BinaryOp op) {
  static const UnaryOp functions[] = {UNARY_RELU, UNARY_GELU, UNARY_GELU_TANH, UNARY_SILU};
  for (int i = 0; i < 4; i++) {
    if (activation_gradient(functions[i]) == op) return functions[i];
  }
  return UNARY_NEG;
}

static bool in_vectors(const Tensor *x, DType dtype) {
  enum { VECTOR = 16 };
  return x->dtype == dtype && tensor_is_contiguous(x) && is_aligned(tensor_data(x), VECTOR);
}

/* Whether the kernels take it; `grad` may be NULL. */
static bool takes_activation(UnaryOp op, const Tensor *out, const Tensor *x, const Tensor *grad) {
  enum { WIDTH = 8 };
  DType dtype = out->dtype;
  if (activation_gradient(op) == BINARY_ADD || (dtype != DTYPE_F16 && dtype != DTYPE_BF16) ||
      tensor_count(out) % WIDTH != 0)
    return false;
  return in_vectors(out, dtype) && in_vectors(x, dtype) && (!grad || in_vectors(grad, dtype));
}

static bool activate(const CudaDevice *device, UnaryOp op, Tensor *out, const Tensor *x, const Tensor *grad) {
  ActivationPlan plan = {.op = op,
                         .dtype = out->dtype,
                         .x = tensor_data(x),
                         .grad = grad ? tensor_data(grad) : NULL,
                         .out = tensor_data(out)};
  enum { WIDTH = 8 };
  int64_t columns = out->rank > 0 ? out->size[out->rank - 1] : 1, count = tensor_count(out);
  bool vectors = columns % WIDTH == 0;
  int multiprocessors = device->launch.multiprocessors;
  plan.rows = vectors ? count / columns : 1;
  plan.across = count / plan.rows / WIDTH;
  int sums = grad && vectors ? activation_partial_rows(&plan, multiprocessors) : 0;
  if (!cuda_note_column_sums(device, out, sums, &plan.partials)) return false;
  int words = activation_grid(&plan, multiprocessors);
  return cuda_note_maxima(device, out, words, &plan.maxima) &&
         cuda_launched(device, launch_activation(device->launch, &plan), "activation kernel");
}

/* --- the table's entries --- */

bool cuda_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  if (takes_activation(op, out, x, NULL)) return activate(device, op, out, x, NULL);
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
  if (a.tensor && b.tensor && takes_activation(activation_of(op), out, b.tensor, a.tensor)) {
    return activate(device, activation_of(op), out, b.tensor, a.tensor);
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
