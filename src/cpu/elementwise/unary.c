/* y = f(x) */
#include <math.h>

#include "core/activation.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

VECTORIZE static void unary_floats(int op, float *restrict out, const float *const *in, int n) {
  const float *restrict x = in[0];
  switch ((UnaryOp)op) {
  case UNARY_NEG:
    for (int i = 0; i < n; i++) out[i] = -x[i];
    return;
  case UNARY_ABS:
    for (int i = 0; i < n; i++) out[i] = fabsf(x[i]);
    return;
  case UNARY_EXP:
    for (int i = 0; i < n; i++) out[i] = vector_exp(x[i]);
    return;
  case UNARY_LOG:
    for (int i = 0; i < n; i++) out[i] = vector_log(x[i]);
    return;
  case UNARY_SQRT:
    for (int i = 0; i < n; i++) out[i] = sqrtf(x[i]);
    return;
  case UNARY_RSQRT:
    for (int i = 0; i < n; i++) out[i] = 1.0f / sqrtf(x[i]);
    return;
  case UNARY_TANH:
    for (int i = 0; i < n; i++) out[i] = vector_tanh(x[i]);
    return;
  case UNARY_SIGMOID:
    for (int i = 0; i < n; i++) out[i] = vector_sigmoid(x[i]);
    return;
  case UNARY_SIN:
    for (int i = 0; i < n; i++) out[i] = sinf(x[i]);
    return;
  case UNARY_RELU: /* the comparison is false for NaN, which stays */
    for (int i = 0; i < n; i++) out[i] = x[i] < 0.0f ? 0.0f : x[i];
    return;
  case UNARY_GELU:
    for (int i = 0; i < n; i++) out[i] = x[i] * vector_normal_cdf(x[i], vector_gauss(fabsf(x[i])));
    return;
  case UNARY_GELU_TANH:
    for (int i = 0; i < n; i++) out[i] = x[i] * vector_sigmoid(gelu_tanh_argument(x[i]));
    return;
  case UNARY_SILU:
    for (int i = 0; i < n; i++) out[i] = x[i] * vector_sigmoid(x[i]);
    return;
  }
  trap_missing_case();
}

/* Those of unary_keeps_integers, in unsigned arithmetic, where the smallest integer is its own negative. */
VECTORIZE static void unary_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  const int64_t *restrict x = in[0];
  switch ((UnaryOp)op) {
  case UNARY_NEG:
    for (int i = 0; i < n; i++) out[i] = (int64_t)(0 - (uint64_t)x[i]);
    return;
  case UNARY_ABS:
    for (int i = 0; i < n; i++) out[i] = x[i] < 0 ? (int64_t)(0 - (uint64_t)x[i]) : x[i];
    return;
  case UNARY_RELU:
    for (int i = 0; i < n; i++) out[i] = x[i] < 0 ? 0 : x[i];
    return;
  case UNARY_EXP:
  case UNARY_LOG:
  case UNARY_SQRT:
  case UNARY_RSQRT:
  case UNARY_TANH:
  case UNARY_SIGMOID:
  case UNARY_SIN:
  case UNARY_GELU:
  case UNARY_GELU_TANH:
  case UNARY_SILU:
    break;
  }
  trap_missing_case();
}

bool cpu_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  bool integer = unary_keeps_integers(op) && dtype_is_integer(out->dtype) && dtype_is_integer(x->dtype);
  elementwise(out, &(Operand){.tensor = x}, 1, op, unary_floats, integer ? unary_integers : NULL);
  return true;
}
