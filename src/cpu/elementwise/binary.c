/* Operations on two operands. */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/trigonometry.h"
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

/* ln(1 + e^(b x)) / b, where e is never taken to a large power. */
INLINED float softplus(float x, float b) {
  float scaled = b * x;
  return ((scaled > 0.0f ? scaled : 0.0f) + vector_log1p(vector_exp_down(-fabsf(scaled)))) / b;
}

/* A cube is two products, whether its exponent is a number or an element. */
INLINED float power(float a, float b) { return b == 3.0f ? a * a * a : vector_pow(a, b); }
INLINED float hypotenuse(float a, float b) {
  return fabsf(a) == INFINITY || fabsf(b) == INFINITY ? INFINITY : hypotf(a, b);
}

/* A case: the value of one a and b, computed for all. */
#define EACH(OP, value)                                                                                                \
  case BINARY_##OP:                                                                                                    \
    for (int i = 0; i < n; i++) {                                                                                      \
      const __typeof__(*first) a = first[i], b = second[i];                                                            \
      out[i] = value;                                                                                                  \
    }                                                                                                                  \
    return

VECTORIZE static void binary_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict first = in[0], *restrict second = in[1];
  switch ((BinaryOp)op) {
    EACH(ADD, a + b);
    EACH(SUB, a - b);
    EACH(MUL, a * b);
    EACH(MAXIMUM, a > b || a != a ? a : b);
    EACH(MINIMUM, a < b || a != a ? a : b);
    EACH(REMAINDER, remainder_of_floats(fmodf(a, b), b));
    EACH(DIV, a / b);
    EACH(POW, power(a, b));
    EACH(ATAN2, atan2f(a, b));
    EACH(HYPOT, hypotenuse(a, b));
    EACH(LEAKY_RELU, a > 0.0f ? a : a * b);
    EACH(ELU, a > 0.0f ? a : b * vector_expm1(a));
    EACH(SOFTPLUS, softplus(a, b));
    EACH(EQ, a == b ? 1.0f : 0.0f);
    EACH(NE, a != b ? 1.0f : 0.0f);
    EACH(LT, a < b ? 1.0f : 0.0f);
    EACH(LE, a <= b ? 1.0f : 0.0f);
    EACH(GT, a > b ? 1.0f : 0.0f);
    EACH(GE, a >= b ? 1.0f : 0.0f);
    EACH(LOGICAL_AND, a != 0.0f && b != 0.0f ? 1.0f : 0.0f);
    EACH(LOGICAL_OR, a != 0.0f || b != 0.0f ? 1.0f : 0.0f);
    EACH(LOGICAL_XOR, (a != 0.0f) != (b != 0.0f) ? 1.0f : 0.0f);
    EACH(EXPM1_BACKWARD, a * (b + 1.0f));
    EACH(LOG2_BACKWARD, a / (b * LN_2));
    EACH(LOG10_BACKWARD, a / (b * LN_10));
    EACH(LOG1P_BACKWARD, a / (b + 1.0f));
  case BINARY_SIN_BACKWARD:
    cos_floats(out, second, n);
    for (int i = 0; i < n; i++) out[i] *= first[i];
    return;
  case BINARY_COS_BACKWARD:
    sin_floats(out, second, n);
    for (int i = 0; i < n; i++) out[i] *= -first[i];
    return;
    EACH(TAN_BACKWARD, a * (1.0f + b * b));
    EACH(TANH_BACKWARD, a * (1.0f - b * b));
    EACH(ERF_BACKWARD, a * (TWO_OVER_SQRT_PI * vector_exp_down(-b * b)));
    EACH(SIGMOID_BACKWARD, a * b * (1.0f - b));
    EACH(RELU_BACKWARD, b > 0.0f ? a : 0.0f);
    EACH(GELU_BACKWARD, gelu_backward(a, b));
    EACH(GELU_TANH_BACKWARD, gelu_tanh_backward(a, b));
    EACH(SILU_BACKWARD, silu_backward(a, b));
  }
  trap_missing_case();
}

/* The same of b = in[1][0] for all: sums, differences, products and quotients. */
VECTORIZE static void floats_beside_one(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict x = in[0], number = in[1][0];
  if (op == BINARY_ADD || op == BINARY_SUB) {
    const float term = op == BINARY_ADD ? number : -number;
    for (int i = 0; i < n; i++) out[i] = x[i] + term;
  } else if (op == BINARY_MUL) {
    for (int i = 0; i < n; i++) out[i] = x[i] * number;
  } else {
    for (int i = 0; i < n; i++) out[i] = x[i] / number;
  }
}

VECTORIZE static void square_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i];
}

VECTORIZE static void cube_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i] * x[i];
}

static ElementwiseKernels kernels_of(BinaryOp op, Operand b) {
  bool number = op == BINARY_POW && !b.tensor;
  if (number && b.number.value == 2) return (ElementwiseKernels){.floats = square_floats};
  if (number && b.number.value == 3) return (ElementwiseKernels){.floats = cube_floats};
  bool simple = op == BINARY_ADD || op == BINARY_SUB || op == BINARY_MUL || op == BINARY_DIV;
  return (ElementwiseKernels){.floats = binary_floats, .beside_one = simple ? floats_beside_one : NULL};
}

/* In unsigned arithmetic, which wraps around where signed arithmetic is undefined. */
VECTORIZE static void binary_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  const int64_t *restrict first = in[0], *restrict second = in[1];
  switch ((BinaryOp)op) {
    EACH(ADD, (int64_t)((uint64_t)a + (uint64_t)b));
    EACH(SUB, (int64_t)((uint64_t)a - (uint64_t)b));
    EACH(MUL, (int64_t)((uint64_t)a * (uint64_t)b));
    EACH(MAXIMUM, a > b ? a : b);
    EACH(MINIMUM, a < b ? a : b);
    EACH(REMAINDER, remainder_of_integers(a, b));
    EACH(EQ, a == b);
    EACH(NE, a != b);
    EACH(LT, a < b);
    EACH(LE, a <= b);
    EACH(GT, a > b);
    EACH(GE, a >= b);
    BINARY_OF_FLOATS(BINARY_CASE)
    BINARY_CHECKS(BINARY_CASE)
    BINARY_DERIVATIVES(BINARY_CASE)
    break;
  }
  trap_missing_case();
}

bool cpu_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  bool integer = keeps_integers(binary_class(op)) && dtype_is_integer(out->dtype) && operand_is_integer(a) &&
                 operand_is_integer(b);
  ElementwiseKernels kernels = kernels_of(op, b);
  kernels.integers = integer ? binary_integers : NULL;
  return elementwise(out, (Operand[]){a, b}, 2, op, kernels);
}
