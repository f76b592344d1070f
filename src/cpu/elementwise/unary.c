/* y = f(x) */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/trigonometry.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

/* A case: the value of one x, computed for all. */
#define EACH(OP, value)                                                                                                \
  case UNARY_##OP:                                                                                                     \
    for (int i = 0; i < n; i++) {                                                                                      \
      const __typeof__(*all) x = all[i];                                                                               \
      out[i] = value;                                                                                                  \
    }                                                                                                                  \
    return

VECTORIZE static void unary_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict all = in[0];
  switch ((UnaryOp)op) {
    EACH(NEG, -x);
    EACH(ABS, fabsf(x));
    EACH(RELU, x < 0.0f ? 0.0f : x); /* the comparison is false for NaN, which stays */
    EACH(SIGN, (float)(x > 0.0f) - (float)(x < 0.0f));
    EACH(FLOOR, floorf(x));
    EACH(CEIL, ceilf(x));
    EACH(ROUND, rintf(x));
    EACH(TRUNC, truncf(x));
    EACH(EXP, vector_exp(x));
    EACH(EXPM1, vector_expm1(x));
    EACH(LOG, vector_log(x));
    EACH(LOG2, vector_log2(x));
    EACH(LOG10, vector_log10(x));
    EACH(LOG1P, vector_log1p(x));
    EACH(SQRT, sqrtf(x));
    EACH(RSQRT, 1.0f / sqrtf(x));
  case UNARY_SIN:
    sin_floats(out, all, n);
    return;
  case UNARY_COS:
    cos_floats(out, all, n);
    return;
  case UNARY_TAN:
    tan_floats(out, all, n);
    return;
    EACH(TANH, vector_tanh(x));
    EACH(ERF, vector_erf(x));
    EACH(SIGMOID, vector_sigmoid(x));
    EACH(GELU, vector_gelu(x));
    EACH(GELU_TANH, x * vector_sigmoid(gelu_tanh_argument(x)));
    EACH(SILU, x * vector_sigmoid(x));
    EACH(ISNAN, (float_to_bits(x) & 0x7FFFFFFF) > 0x7F800000 ? 1.0f : 0.0f);
    EACH(ISINF, (float_to_bits(x) & 0x7FFFFFFF) == 0x7F800000 ? 1.0f : 0.0f);
    EACH(ISFINITE, fabsf(x) < INFINITY ? 1.0f : 0.0f);
    EACH(LOGICAL_NOT, x == 0.0f ? 1.0f : 0.0f);
  }
  trap_missing_case();
}

/* In unsigned arithmetic, where the smallest integer is its own negative. */
VECTORIZE static void unary_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  const int64_t *restrict all = in[0];
  switch ((UnaryOp)op) {
    EACH(NEG, (int64_t)(0 - (uint64_t)x));
    EACH(ABS, x < 0 ? (int64_t)(0 - (uint64_t)x) : x);
    EACH(RELU, x < 0 ? 0 : x);
    EACH(SIGN, (x > 0) - (x < 0));
    EACH(FLOOR, x);
    EACH(CEIL, x);
    EACH(ROUND, x);
    EACH(TRUNC, x);
    UNARY_OF_FLOATS(UNARY_CASE)
    UNARY_CHECKS(UNARY_CASE)
    break;
  }
  trap_missing_case();
}

/* A conversion of its own would take a tenth of the time. */
VECTORIZE static void gelu_of_bf16(int op, float *restrict out, const uint16_t *restrict in, int n) {
  (void)op;
  for (int i = 0; i < n; i++) out[i] = vector_gelu(bf16_to_float(in[i]));
}

bool cpu_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  bool integer = keeps_integers(unary_class(op)) && dtype_is_integer(out->dtype) && dtype_is_integer(x->dtype);
  ElementwiseKernels kernels = {.floats = unary_floats, .integers = integer ? unary_integers : NULL};
  if (op == UNARY_GELU && x->dtype == DTYPE_BF16) kernels.of_bf16 = gelu_of_bf16;
  return elementwise(out, &(Operand){.tensor = x}, 1, op, kernels);
}
