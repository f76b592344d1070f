/* Operations on two operands, and clamp. */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

static const float normal_density_at_0 = 0.398942280f; /* 1 / sqrt(2 π) */

VECTORIZE static void arithmetic_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict a = in[0], *restrict b = in[1];
  switch ((BinaryOp)op) {
  case BINARY_ADD:
    for (int i = 0; i < n; i++) out[i] = a[i] + b[i];
    break;
  case BINARY_SUB:
    for (int i = 0; i < n; i++) out[i] = a[i] - b[i];
    break;
  case BINARY_MUL:
    for (int i = 0; i < n; i++) out[i] = a[i] * b[i];
    break;
  case BINARY_DIV:
    for (int i = 0; i < n; i++) out[i] = a[i] / b[i];
    break;
  case BINARY_MAXIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
    break;
  case BINARY_MINIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] || a[i] != a[i] ? a[i] : b[i];
    break;
  default:
    break;
  }
}

static void power_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  for (int i = 0; i < n; i++) out[i] = powf(in[0][i], in[1][i]);
}

VECTORIZE static void square_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i];
}

VECTORIZE static void compare_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict a = in[0], *restrict b = in[1];
  switch ((BinaryOp)op) {
  case BINARY_EQ:
    for (int i = 0; i < n; i++) out[i] = a[i] == b[i] ? 1.0f : 0.0f;
    break;
  case BINARY_NE:
    for (int i = 0; i < n; i++) out[i] = a[i] != b[i] ? 1.0f : 0.0f;
    break;
  case BINARY_LT:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] ? 1.0f : 0.0f;
    break;
  case BINARY_LE:
    for (int i = 0; i < n; i++) out[i] = a[i] <= b[i] ? 1.0f : 0.0f;
    break;
  case BINARY_GT:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] ? 1.0f : 0.0f;
    break;
  case BINARY_GE:
    for (int i = 0; i < n; i++) out[i] = a[i] >= b[i] ? 1.0f : 0.0f;
    break;
  default:
    break;
  }
}

/* in: the gradient of the output, then the operation's output y or input x. */
VECTORIZE static void backward_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict g = in[0], *restrict x = in[1], *restrict y = in[1];
  switch ((BinaryOp)op) {
  case BINARY_TANH_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = g[i] * (1.0f - y[i] * y[i]);
    break;
  case BINARY_SIGMOID_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = g[i] * y[i] * (1.0f - y[i]);
    break;
  case BINARY_RELU_BACKWARD:
    for (int i = 0; i < n; i++) out[i] = x[i] > 0.0f ? g[i] : 0.0f;
    break;
  case BINARY_GELU_BACKWARD:
    for (int i = 0; i < n; i++) {
      float gauss = vector_gauss(fabsf(x[i]));
      out[i] = g[i] * (vector_normal_cdf(x[i], gauss) + x[i] * (normal_density_at_0 * gauss));
    }
    break;
  case BINARY_GELU_TANH_BACKWARD:
    for (int i = 0; i < n; i++) {
      float bounded = gelu_tanh_bounded(x[i]);
      float s = vector_sigmoid(gelu_tanh_argument(bounded));
      out[i] = g[i] * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
    }
    break;
  case BINARY_SILU_BACKWARD:
    for (int i = 0; i < n; i++) {
      float s = vector_sigmoid(x[i]);
      out[i] = g[i] * s * (1.0f + x[i] * (1.0f - s));
    }
    break;
  default:
    break;
  }
}

/* In unsigned arithmetic, which wraps around where signed arithmetic is undefined. */
VECTORIZE static void binary_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  const int64_t *restrict a = in[0], *restrict b = in[1];
  switch ((BinaryOp)op) {
  case BINARY_ADD:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] + (uint64_t)b[i]);
    break;
  case BINARY_SUB:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] - (uint64_t)b[i]);
    break;
  case BINARY_MUL:
    for (int i = 0; i < n; i++) out[i] = (int64_t)((uint64_t)a[i] * (uint64_t)b[i]);
    break;
  case BINARY_MAXIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i] ? a[i] : b[i];
    break;
  case BINARY_MINIMUM:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i] ? a[i] : b[i];
    break;
  case BINARY_EQ:
    for (int i = 0; i < n; i++) out[i] = a[i] == b[i];
    break;
  case BINARY_NE:
    for (int i = 0; i < n; i++) out[i] = a[i] != b[i];
    break;
  case BINARY_LT:
    for (int i = 0; i < n; i++) out[i] = a[i] < b[i];
    break;
  case BINARY_LE:
    for (int i = 0; i < n; i++) out[i] = a[i] <= b[i];
    break;
  case BINARY_GT:
    for (int i = 0; i < n; i++) out[i] = a[i] > b[i];
    break;
  case BINARY_GE:
    for (int i = 0; i < n; i++) out[i] = a[i] >= b[i];
    break;
  default:
    break;
  }
}

static bool is_comparison(BinaryOp op) { return op >= BINARY_EQ && op <= BINARY_GE; }

static FloatKernel float_kernel_of(BinaryOp op, const Operand *b) {
  if (op == BINARY_POW) return !b->tensor && b->number == 2 ? square_floats : power_floats;
  if (is_comparison(op)) return compare_floats;
  return op >= BINARY_TANH_BACKWARD ? backward_floats : arithmetic_floats;
}

bool cpu_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  Operand in[2] = {a, b};
  bool exact = is_comparison(op) || (op <= BINARY_MINIMUM && op != BINARY_DIV && op != BINARY_POW);
  bool integer = exact && !dtype_is_float(out->dtype) && operand_is_integer(&a) && operand_is_integer(&b);
  elementwise(out, in, 2, op, float_kernel_of(op, &b), integer ? binary_integers : NULL);
  return true;
}

/* --- clamp --- */

VECTORIZE static void clamp_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0], *restrict low = in[1], *restrict high = in[2];
  for (int i = 0; i < n; i++) {
    float value = x[i] < low[i] ? low[i] : x[i];
    out[i] = value > high[i] ? high[i] : value;
  }
}

VECTORIZE static void clamp_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  (void)op;
  const int64_t *restrict x = in[0], *restrict low = in[1], *restrict high = in[2];
  for (int i = 0; i < n; i++) {
    int64_t value = x[i] < low[i] ? low[i] : x[i];
    out[i] = value > high[i] ? high[i] : value;
  }
}

/* For integers the limits saturate like every cast. */
bool cpu_clamp(Tensor *out, const Tensor *x, double low, double high) {
  Operand in[3] = {{.tensor = x}, {.number = low}, {.number = high}};
  bool integer = !dtype_is_float(out->dtype) && operand_is_integer(&in[0]);
  elementwise(out, in, 3, 0, clamp_floats, integer ? clamp_integers : NULL);
  return true;
}
