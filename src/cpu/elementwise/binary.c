/* Operations on two operands. */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

static const float normal_density_at_0 = 0.398942280f; /* 1 / sqrt(2 π) */

/* A gradient form takes the gradient of the output in a, the operation's output y or input x in b. */
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
  case BINARY_RELU_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = b[i] > 0.0f ? a[i] : 0.0f;
    return;
  case BINARY_GELU_BACKWARD:
    for (int i = 0; i < n; i++) {
      float gauss = vector_gauss(fabsf(b[i]));
      out[i] = a[i] * (vector_normal_cdf(b[i], gauss) + b[i] * (normal_density_at_0 * gauss));
    }
    return;
  case BINARY_GELU_TANH_BACKWARD:
    for (int i = 0; i < n; i++) {
      float bounded = gelu_tanh_bounded(b[i]);
      float s = vector_sigmoid(gelu_tanh_argument(bounded));
      out[i] = a[i] * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
    }
    return;
  case BINARY_SILU_BACKWARD:
    for (int i = 0; i < n; i++) {
      float s = vector_sigmoid(b[i]);
      out[i] = a[i] * s * (1.0f + b[i] * (1.0f - s));
    }
    return;
  case BINARY_COUNT:
    break;
  }
  missing_case();
}

VECTORIZE static void square_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i];
}

/* In unsigned arithmetic, which wraps around where signed arithmetic is undefined. */
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
  case BINARY_RELU_BACKWARD:
  case BINARY_GELU_BACKWARD:
  case BINARY_GELU_TANH_BACKWARD:
  case BINARY_SILU_BACKWARD:
  case BINARY_COUNT:
    break;
  }
  missing_case();
}

/* Whether the operation takes integers to an integer. */
static bool has_integer_form(BinaryOp op) {
  switch (op) {
  case BINARY_ADD:
  case BINARY_SUB:
  case BINARY_MUL:
  case BINARY_MAXIMUM:
  case BINARY_MINIMUM:
  case BINARY_EQ:
  case BINARY_NE:
  case BINARY_LT:
  case BINARY_LE:
  case BINARY_GT:
  case BINARY_GE:
    return true;
  case BINARY_DIV:
  case BINARY_POW:
  case BINARY_TANH_BACKWARD:
  case BINARY_SIGMOID_BACKWARD:
  case BINARY_RELU_BACKWARD:
  case BINARY_GELU_BACKWARD:
  case BINARY_GELU_TANH_BACKWARD:
  case BINARY_SILU_BACKWARD:
    return false;
  case BINARY_COUNT:
    break;
  }
  missing_case();
}

/* The operand beside integers that round to float32: a number beyond the range of 64 bits, which only comparisons meet
 * here, stays beyond what the limits of that range round to. */
static Operand beside_integers(Operand operand) {
  bool beyond = operand.number < -0x1p63 || operand.number >= 0x1p63;
  return operand.tensor || !beyond ? operand : (Operand){.number = copysign(INFINITY, operand.number)};
}

bool cpu_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  bool exact = has_integer_form(op) && !dtype_is_float(out->dtype);
  bool first = operand_is_integer(&a), second = operand_is_integer(&b);
  if (exact && first && a.tensor) b = beside_integers(b);
  if (exact && second && b.tensor) a = beside_integers(a);
  bool square = op == BINARY_POW && !b.tensor && b.number == 2;
  elementwise(out, (Operand[]){a, b}, 2, op, square ? square_floats : binary_floats,
              exact && first && second ? binary_integers : NULL);
  return true;
}
