/* Operations on two operands. */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

/* Derivatives, of the gradient g of the output and the input x. */

INLINED float gelu_backward(float g, float x) {
  const float normal_density_at_0 = 0.398942280f; /* 1 / sqrt(2 π) */
  float gauss = vector_gauss(fabsf(x));
  return g * (vector_normal_cdf(x, gauss) + x * (normal_density_at_0 * gauss));
}

INLINED float gelu_tanh_backward(float g, float x) {
  float bounded = gelu_tanh_bounded(x), s = vector_sigmoid(gelu_tanh_argument(bounded));
  return g * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
}

INLINED float silu_backward(float g, float x) {
  float s = vector_sigmoid(x);
  return g * s * (1.0f + x * (1.0f - s));
}

VECTORIZE static void binary_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict a = in[0], *restrict b = in[1];
  switch ((BinaryOp)op) {
  case BINARY_ADD:
    for (int i = 0; i < n; i++) out[i] = a[i] + b[i];
    return;
  case BINARY_SUB:
    for (int i = 0; i < n; i++) out[i] = a[i] - b[i];
    return;
  case BINARY_MUL:
    for (int i = 0; i < n; i++) out[i] = a[i] * b[i];
    return;
  case BINARY_DIV:
    for (int i = 0; i < n; i++) out[i] = a[i] / b[i];
    return;
  case BINARY_POW:
    for (int i = 0; i < n; i++) out[i] = powf(a[i], b[i]);
    return;
  case BINARY_MAXIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
    return;
  case BINARY_MINIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] || a[i] != a[i] ? a[i] : b[i];
    return;
  case BINARY_EQ:
    for (int i = 0; i < n; i++) out[i] = a[i] == b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_NE:
    for (int i = 0; i < n; i++) out[i] = a[i] != b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_LT:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_LE:
    for (int i = 0; i < n; i++) out[i] = a[i] <= b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_GT:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_GE:
    for (int i = 0; i < n; i++) out[i] = a[i] >= b[i] ? 1.0f : 0.0f;
    return;
  case BINARY_TANH_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = a[i] * (1.0f - b[i] * b[i]);
    return;
  case BINARY_SIGMOID_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = a[i] * b[i] * (1.0f - b[i]);
    return;
  case BINARY_SIN_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = a[i] * cosf(b[i]);
    return;
  case BINARY_RELU_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = b[i] > 0.0f ? a[i] : 0.0f;
    return;
  case BINARY_GELU_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = gelu_backward(a[i], b[i]);
    return;
  case BINARY_GELU_TANH_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = gelu_tanh_backward(a[i], b[i]);
    return;
  case BINARY_SILU_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = silu_backward(a[i], b[i]);
    return;
  }
  trap_missing_case();
}

VECTORIZE static void square_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i];
}

/* Those of binary_keeps_integers, in unsigned arithmetic, which wraps around where signed arithmetic is undefined. */
VECTORIZE static void binary_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  const int64_t *restrict a = in[0], *restrict b = in[1];
  switch ((BinaryOp)op) {
  case BINARY_ADD:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] + (uint64_t)b[i]);
    return;
  case BINARY_SUB:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] - (uint64_t)b[i]);
    return;
  case BINARY_MUL:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] * (uint64_t)b[i]);
    return;
  case BINARY_MAXIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] ? a[i] : b[i];
    return;
  case BINARY_MINIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] ? a[i] : b[i];
    return;
  case BINARY_EQ:
    for (int i = 0; i < n; i++) out[i] = a[i] == b[i];
    return;
  case BINARY_NE:
    for (int i = 0; i < n; i++) out[i] = a[i] != b[i];
    return;
  case BINARY_LT:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i];
    return;
  case BINARY_LE:
    for (int i = 0; i < n; i++) out[i] = a[i] <= b[i];
    return;
  case BINARY_GT:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i];
    return;
  case BINARY_GE:
    for (int i = 0; i < n; i++) out[i] = a[i] >= b[i];
    return;
  case BINARY_DIV:
  case BINARY_POW:
  case BINARY_TANH_BACKWARD:
  case BINARY_SIGMOID_BACKWARD:
  case BINARY_SIN_BACKWARD:
  case BINARY_RELU_BACKWARD:
  case BINARY_GELU_BACKWARD:
  case BINARY_GELU_TANH_BACKWARD:
  case BINARY_SILU_BACKWARD:
    break;
  }
  trap_missing_case();
}

bool cpu_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  bool square = op == BINARY_POW && !b.tensor && b.number.value == 2;
  bool integer =
      binary_keeps_integers(op) && dtype_is_integer(out->dtype) && operand_is_integer(a) && operand_is_integer(b);
  elementwise(out, (Operand[]){a, b}, 2, op, square ? square_floats : binary_floats, integer ? binary_integers : NULL);
  return true;
}
