/* Operations on two operands. */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

/* --- float32 --- */

/* A kernel that computes `result` of the operands a and b. */
#define FLOAT_KERNEL(name, result)                                                                                     \
  VECTORIZE static void name(float *restrict out, const float *const *in, int n) {                                     \
    const float *restrict left = in[0], *restrict right = in[1];                                                       \
    for (int i = 0; i < n; i++) {                                                                                      \
      float a = left[i], b = right[i];                                                                                 \
      out[i] = (result);                                                                                               \
    }                                                                                                                  \
  }

FLOAT_KERNEL(float_add, a + b)
FLOAT_KERNEL(float_sub, a - b)
FLOAT_KERNEL(float_mul, (a * b))
FLOAT_KERNEL(float_div, a / b)
FLOAT_KERNEL(float_pow, powf(a, b))
FLOAT_KERNEL(float_maximum, a > b || a != a ? a : b)
FLOAT_KERNEL(float_minimum, a < b || a != a ? a : b)
FLOAT_KERNEL(float_eq, a == b ? 1.0f : 0.0f)
FLOAT_KERNEL(float_ne, a != b ? 1.0f : 0.0f)
FLOAT_KERNEL(float_lt, a < b ? 1.0f : 0.0f)
FLOAT_KERNEL(float_le, a <= b ? 1.0f : 0.0f)
FLOAT_KERNEL(float_gt, a > b ? 1.0f : 0.0f)
FLOAT_KERNEL(float_ge, a >= b ? 1.0f : 0.0f)

VECTORIZE static void float_square(float *restrict out, const float *const *in, int n) {
  const float *restrict x = in[0];
  for (int i = 0; i < n; i++) out[i] = x[i] * x[i];
}

/* Derivative forms: g is the gradient of the output, y the output, x the input. */

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

FLOAT_KERNEL(float_tanh_backward, (a * (1.0f - b * b)))
FLOAT_KERNEL(float_sigmoid_backward, (a * b * (1.0f - b)))
FLOAT_KERNEL(float_relu_backward, b > 0.0f ? a : 0.0f)
FLOAT_KERNEL(float_gelu_backward, gelu_backward(a, b))
FLOAT_KERNEL(float_gelu_tanh_backward, gelu_tanh_backward(a, b))
FLOAT_KERNEL(float_silu_backward, silu_backward(a, b))

/* --- 64-bit integers --- */

#define INTEGER_KERNEL(name, result)                                                                                   \
  VECTORIZE static void name(int64_t *restrict out, const int64_t *const *in, int n) {                                 \
    const int64_t *restrict left = in[0], *restrict right = in[1];                                                     \
    for (int i = 0; i < n; i++) {                                                                                      \
      int64_t a = left[i], b = right[i];                                                                               \
      out[i] = (int64_t)(result);                                                                                      \
    }                                                                                                                  \
  }

/* In unsigned arithmetic, which wraps around where signed arithmetic is undefined. */
INTEGER_KERNEL(integer_add, (uint64_t)a + (uint64_t)b)
INTEGER_KERNEL(integer_sub, (uint64_t)a - (uint64_t)b)
INTEGER_KERNEL(integer_mul, ((uint64_t)a * (uint64_t)b))
INTEGER_KERNEL(integer_maximum, a > b ? a : b)
INTEGER_KERNEL(integer_minimum, a < b ? a : b)
INTEGER_KERNEL(integer_eq, a == b)
INTEGER_KERNEL(integer_ne, a != b)
INTEGER_KERNEL(integer_lt, a < b)
INTEGER_KERNEL(integer_le, a <= b)
INTEGER_KERNEL(integer_gt, a > b)
INTEGER_KERNEL(integer_ge, a >= b)

static ElementwiseKernels kernels_of(BinaryOp op) {
  switch (op) {
  case BINARY_ADD:
    return (ElementwiseKernels){float_add, integer_add};
  case BINARY_SUB:
    return (ElementwiseKernels){float_sub, integer_sub};
  case BINARY_MUL:
    return (ElementwiseKernels){float_mul, integer_mul};
  case BINARY_DIV:
    return (ElementwiseKernels){float_div, NULL};
  case BINARY_POW:
    return (ElementwiseKernels){float_pow, NULL};
  case BINARY_MAXIMUM:
    return (ElementwiseKernels){float_maximum, integer_maximum};
  case BINARY_MINIMUM:
    return (ElementwiseKernels){float_minimum, integer_minimum};
  case BINARY_EQ:
    return (ElementwiseKernels){float_eq, integer_eq};
  case BINARY_NE:
    return (ElementwiseKernels){float_ne, integer_ne};
  case BINARY_LT:
    return (ElementwiseKernels){float_lt, integer_lt};
  case BINARY_LE:
    return (ElementwiseKernels){float_le, integer_le};
  case BINARY_GT:
    return (ElementwiseKernels){float_gt, integer_gt};
  case BINARY_GE:
    return (ElementwiseKernels){float_ge, integer_ge};
  case BINARY_TANH_BACKWARD:
    return (ElementwiseKernels){float_tanh_backward, NULL};
  case BINARY_SIGMOID_BACKWARD:
    return (ElementwiseKernels){float_sigmoid_backward, NULL};
  case BINARY_RELU_BACKWARD:
    return (ElementwiseKernels){float_relu_backward, NULL};
  case BINARY_GELU_BACKWARD:
    return (ElementwiseKernels){float_gelu_backward, NULL};
  case BINARY_GELU_TANH_BACKWARD:
    return (ElementwiseKernels){float_gelu_tanh_backward, NULL};
  case BINARY_SILU_BACKWARD:
    return (ElementwiseKernels){float_silu_backward, NULL};
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
  ElementwiseKernels kernels = kernels_of(op);
  if (op == BINARY_POW && !b.tensor && b.number == 2) kernels.floats = float_square;
  if (dtype_is_float(out->dtype)) kernels.integers = NULL;
  if (kernels.integers) {
    if (a.tensor && operand_is_integer(&a)) b = beside_integers(b);
    if (b.tensor && operand_is_integer(&b)) a = beside_integers(a);
    if (!operand_is_integer(&a) || !operand_is_integer(&b)) kernels.integers = NULL;
  }
  elementwise(out, (Operand[]){a, b}, 2, kernels);
  return true;
}
