/* y = f(x) */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

/* A kernel that computes `result` of x. */
#define KERNEL(type, name, result)                                                                                     \
  VECTORIZE static void name(type *restrict out, const type *const *in, int n) {                                       \
    const type *restrict input = in[0];                                                                                \
    for (int i = 0; i < n; i++) {                                                                                      \
      type x = input[i];                                                                                               \
      out[i] = (result);                                                                                               \
    }                                                                                                                  \
  }

KERNEL(float, float_neg, -x)
KERNEL(float, float_abs, fabsf(x))
KERNEL(float, float_exp, vector_exp(x))
KERNEL(float, float_log, vector_log(x))
KERNEL(float, float_sqrt, sqrtf(x))
KERNEL(float, float_rsqrt, 1.0f / sqrtf(x))
KERNEL(float, float_tanh, vector_tanh(x))
KERNEL(float, float_sigmoid, vector_sigmoid(x))
KERNEL(float, float_relu, x < 0.0f ? 0.0f : x) /* the comparison is false for NaN, which stays */
KERNEL(float, float_gelu, (x * vector_normal_cdf(x, vector_gauss(fabsf(x)))))
KERNEL(float, float_gelu_tanh, (x * vector_sigmoid(gelu_tanh_argument(x))))
KERNEL(float, float_silu, (x * vector_sigmoid(x)))

static FloatKernel float_kernel_of(UnaryOp op) {
  switch (op) {
  case UNARY_NEG:
    return float_neg;
  case UNARY_ABS:
    return float_abs;
  case UNARY_EXP:
    return float_exp;
  case UNARY_LOG:
    return float_log;
  case UNARY_SQRT:
    return float_sqrt;
  case UNARY_RSQRT:
    return float_rsqrt;
  case UNARY_TANH:
    return float_tanh;
  case UNARY_SIGMOID:
    return float_sigmoid;
  case UNARY_RELU:
    return float_relu;
  case UNARY_GELU:
    return float_gelu;
  case UNARY_GELU_TANH:
    return float_gelu_tanh;
  case UNARY_SILU:
    return float_silu;
  case UNARY_COUNT:
    break;
  }
  missing_case();
}

/* In unsigned arithmetic, where the smallest integer is its own negative. */
INLINED int64_t negative(int64_t x) { return (int64_t)(0 - (uint64_t)x); }

KERNEL(int64_t, integer_neg, negative(x))
KERNEL(int64_t, integer_abs, x < 0 ? negative(x) : x)
KERNEL(int64_t, integer_relu, x < 0 ? 0 : x)

/* NULL for operations that are not computed in integers. */
static IntegerKernel integer_kernel_of(UnaryOp op) {
  switch (op) {
  case UNARY_NEG:
    return integer_neg;
  case UNARY_ABS:
    return integer_abs;
  case UNARY_RELU:
    return integer_relu;
  case UNARY_EXP:
  case UNARY_LOG:
  case UNARY_SQRT:
  case UNARY_RSQRT:
  case UNARY_TANH:
  case UNARY_SIGMOID:
  case UNARY_GELU:
  case UNARY_GELU_TANH:
  case UNARY_SILU:
    return NULL;
  case UNARY_COUNT:
    break;
  }
  missing_case();
}

bool cpu_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  bool integers = !dtype_is_float(out->dtype) && !dtype_is_float(x->dtype);
  elementwise(out, &(Operand){.tensor = x}, 1, float_kernel_of(op), integers ? integer_kernel_of(op) : NULL);
  return true;
}
