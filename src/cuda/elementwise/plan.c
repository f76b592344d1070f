#include "cuda/elementwise/plan.h"

static ElementOperand element_operand(Operand operand) {
  ElementOperand element = {.number = (float)operand.number.value, .integer = operand.number.integer};
  if (operand.tensor) {
    element.data = tensor_data(operand.tensor);
    element.dtype = operand.tensor->dtype;
  }
  return element;
}

/* Whether dimension `d` of the tensors continues the plan's last dimension, in every operand. */
static bool continues(const ElementwisePlan *plan, const Tensor *const tensors[], int d) {
  if (plan->rank == 0) return false;
  for (int k = 0; k < plan->operands; k++) {
    if (!tensors[k]) continue;
    if (plan->operand[k].stride[plan->rank - 1] != tensors[k]->stride[d] * tensors[k]->size[d]) return false;
  }
  return true;
}

static void merge_dimensions(ElementwisePlan *plan, const Tensor *const tensors[]) {
  const Tensor *out = tensors[0];
  for (int d = 0; d < out->rank; d++) {
    if (out->size[d] == 1) continue;
    if (continues(plan, tensors, d)) {
      plan->size[plan->rank - 1] *= out->size[d];
    } else {
      plan->size[plan->rank++] = out->size[d];
    }
    for (int k = 0; k < plan->operands; k++)
      plan->operand[k].stride[plan->rank - 1] = tensors[k] ? tensors[k]->stride[d] : 0;
  }
  if (plan->rank == 0) {
    plan->rank = 1;
    plan->size[0] = 1;
  }
}

static bool allows_vectors(const ElementwisePlan *plan, int width) {
  int inner = plan->rank - 1;
  if (plan->count < width || (plan->rank > 1 && plan->size[inner] % width != 0)) return false;
  for (int k = 0; k < plan->operands; k++) {
    const ElementOperand *operand = &plan->operand[k];
    if (!operand->data || (k > 0 && operand->stride[inner] == 0)) continue;
    if (operand->stride[inner] != 1) return false;
    int64_t bytes = width * dtype_size(operand->dtype);
    int64_t alignment = bytes < 16 ? bytes : 16;
    if (!is_aligned(operand->data, alignment)) return false;
    for (int d = 0; d < inner; d++) {
      if (operand->stride[d] * dtype_size(operand->dtype) % alignment != 0) return false;
    }
  }
  return true;
}

/* Eight elements where none is wider than two bytes, so that no operand moves more than 16 bytes in a vector, and where
 * they become bytes, of which fewer are a small part of what a thread could have on its way. */
static int widest_vector(const ElementwisePlan *plan) {
  bool narrow = true, to_bytes = dtype_size(plan->operand[0].dtype) == 1;
  for (int k = 0; k < plan->operands; k++) {
    if (plan->operand[k].data && dtype_size(plan->operand[k].dtype) > 2) narrow = false;
  }
  if ((narrow || to_bytes) && allows_vectors(plan, 8)) return 8;
  return allows_vectors(plan, 4) ? 4 : 1;
}

ElementwisePlan elementwise_plan(const Tensor *out, const Operand *inputs, int input_count) {
  ElementwisePlan plan = {.operands = 1 + input_count, .count = tensor_count(out), .saturate = true};
  const Tensor *tensors[ELEMENTWISE_OPERANDS] = {out};
  plan.operand[0] = element_operand(tensor_operand(out));
  for (int k = 0; k < input_count; k++) {
    tensors[1 + k] = inputs[k].tensor;
    plan.operand[1 + k] = element_operand(inputs[k]);
  }
  merge_dimensions(&plan, tensors);
  plan.vector_width = widest_vector(&plan);
  return plan;
}

void plan_integers(ElementwisePlan *plan) {
  plan->integer = true;
  plan->vector_width = 1;
}
