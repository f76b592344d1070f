/* y = f(x). */
#include "elementwise/activation.cuh"
#include "elementwise/elementwise.cuh"

namespace {

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[1][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k]);
}

/* What is chosen once a vector, by a branch that is the same for the whole grid. */
#define EACH(OP, value)                                                                                                \
  case UNARY_##OP:                                                                                                     \
    return for_each(in, out, [](float x) { return value; })

/* Kernels of their own: for large numbers these take more registers than the others, and a stack. */
#define ALONE(OPERATION)                                                                                               \
  OPERATION(SIN, sinf(x))                                                                                              \
  OPERATION(COS, cosf(x))                                                                                              \
  OPERATION(TAN, tanf(x))

struct Unary {
  static constexpr int inputs = 1;
  UnaryOp op;

#pragma nv_exec_check_disable
  template <int WIDTH> __host__ __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
    switch (op) {
      EACH(NEG, -x);
      EACH(ABS, fabsf(x));
      EACH(RELU, x < 0.0f ? 0.0f : x); /* keeps NaN */
      EACH(SIGN, (float)(x > 0.0f) - (float)(x < 0.0f));
      EACH(FLOOR, floorf(x));
      EACH(CEIL, ceilf(x));
      EACH(ROUND, rintf(x));
      EACH(TRUNC, truncf(x));
      EACH(EXP, expf(x));
      EACH(EXPM1, expm1f(x));
      EACH(LOG, logf(x));
      EACH(LOG2, log2f(x));
      EACH(LOG10, log10f(x));
      EACH(LOG1P, log1pf(x));
      EACH(SQRT, sqrtf(x));
      EACH(RSQRT, 1.0f / sqrtf(x));
      EACH(TANH, tanhf(x));
      EACH(ERF, erff(x));
      EACH(SIGMOID, sigmoid(x));
      EACH(GELU, x * normal_distribution(x));
      EACH(GELU_TANH, x * sigmoid(gelu_tanh_argument(x)));
      EACH(SILU, x * sigmoid(x));
      EACH(ISNAN, x != x ? 1.0f : 0.0f);
      EACH(ISINF, fabsf(x) == INFINITY ? 1.0f : 0.0f);
      EACH(ISFINITE, fabsf(x) < INFINITY ? 1.0f : 0.0f);
      EACH(LOGICAL_NOT, x == 0.0f ? 1.0f : 0.0f);
      ALONE(UNARY_CASE)
      break;
    }
    missing_case<void>();
  }

  __host__ __device__ int64_t integer(const int64_t (&in)[1]) const {
    const int64_t x = in[0];
    switch (op) {
    case UNARY_NEG:
      return (int64_t)(0 - (uint64_t)x);
    case UNARY_ABS:
      return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
    case UNARY_RELU:
      return x < 0 ? 0 : x;
    case UNARY_SIGN:
      return (x > 0) - (x < 0);
    case UNARY_FLOOR:
    case UNARY_CEIL:
    case UNARY_ROUND:
    case UNARY_TRUNC:
      return x;
      UNARY_OF_FLOATS(UNARY_CASE)
      UNARY_CHECKS(UNARY_CASE)
      break;
    }
    return missing_case<int64_t>();
  }
};
static_assert(compiled_for_host<&Unary::operator()<1>>);

template <UnaryOp OP> __device__ float alone(float x);
#define ALONE_FUNCTION(OP, value)                                                                                      \
  template <> __device__ inline float alone<UNARY_##OP>(float x) { return value; }
ALONE(ALONE_FUNCTION)

template <UnaryOp OP> struct Alone {
  static constexpr int inputs = 1;

  template <int WIDTH> __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
    for_each(in, out, alone<OP>);
  }

  __device__ int64_t integer(const int64_t (&)[1]) const { return missing_case<int64_t>(); }
};

} // namespace

#define LAUNCH_ALONE(OP, value)                                                                                        \
  if (op == UNARY_##OP) return launch_elementwise(launch, plan, Alone<UNARY_##OP>{});

extern "C" cudaError_t launch_unary(Launch launch, const ElementwisePlan *plan, UnaryOp op) {
  ALONE(LAUNCH_ALONE)
  return launch_elementwise(launch, plan, Unary{op});
}
