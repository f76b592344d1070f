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

/* In unsigned arithmetic, where the smallest integer is its own negative. */
INLINED int64_t negative(int64_t x) { return (int64_t)(0 - (uint64_t)x); }

KERNEL(int64_t, integer_neg, negative(x))
KERNEL(int64_t, integer_abs, x < 0 ? negative(x) : x)
KERNEL(int64_t, integer_relu, x < 0 ? 0 : x)

static ElementwiseKernels kernels_of(UnaryOp op) {
  switch (op) {
  case UNARY_NEG:
    return (ElementwiseKernels){float_neg, integer_neg};
  case UNARY_ABS:
    return (ElementwiseKernels){float_abs, integer_abs};
  case UNARY_EXP:
    return (ElementwiseKernels){float_exp, NULL};
  case UNARY_LOG:
    return (ElementwiseKernels){float_log, NULL};
  case UNARY_SQRT:
    return (ElementwiseKernels){float_sqrt, NULL};
  case UNARY_RSQRT:
    return (ElementwiseKernels){float_rsqrt, NULL};
  case UNARY_TANH:
    return (ElementwiseKernels){float_tanh, NULL};
  case UNARY_SIGMOID:
    return (ElementwiseKernels){float_sigmoid, NULL};
  case UNARY_RELU:
    return (ElementwiseKernels){float_relu, integer_relu};
  case UNARY_GELU:
    return (ElementwiseKernels){float_gelu, NULL};
  case UNARY_GELU_TANH:
    return (ElementwiseKernels){float_gelu_tanh, NULL};
  case UNARY_SILU:
    return (ElementwiseKernels){float_silu, NULL};
  case UNARY_COUNT:
    break;
  }
  missing_case();
}

bool cpu_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  ElementwiseKernels kernels = kernels_of(op);
  if (dtype_is_float(out->dtype) || dtype_is_float(x->dtype)) kernels.integers = NULL;
  elementwise(out, &(Operand){.tensor = x}, 1, kernels);
  return true;
}
