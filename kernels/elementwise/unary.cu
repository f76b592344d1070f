/* y = f(x). */
#include "elementwise/activation.cuh"
#include "elementwise/elementwise.cuh"

namespace {

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[1][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k]);
}

/* The operation is chosen once a vector, by a branch that is the same for the whole grid. */
struct Unary {
  static constexpr int inputs = 1;
  UnaryOp op;

#pragma nv_exec_check_disable
  template <int WIDTH> __host__ __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
    switch (op) {
    case UNARY_NEG:
      return for_each(in, out, [](float x) { return -x; });
    case UNARY_ABS:
      return for_each(in, out, [](float x) { return fabsf(x); });
    case UNARY_EXP:
      return for_each(in, out, [](float x) { return expf(x); });
    case UNARY_LOG:
      return for_each(in, out, [](float x) { return logf(x); });
    case UNARY_SQRT:
      return for_each(in, out, [](float x) { return sqrtf(x); });
    case UNARY_RSQRT:
      return for_each(in, out, [](float x) { return 1.0f / sqrtf(x); });
    case UNARY_TANH:
      return for_each(in, out, [](float x) { return tanhf(x); });
    case UNARY_SIGMOID:
      return for_each(in, out, [](float x) { return sigmoid(x); });
    case UNARY_RELU:
      return for_each(in, out, [](float x) { return x < 0.0f ? 0.0f : x; }); /* keeps NaN */
    case UNARY_GELU:
      return for_each(in, out, [](float x) { return x * normal_distribution(x); });
    case UNARY_GELU_TANH:
      return for_each(in, out, [](float x) { return x * sigmoid(gelu_tanh_argument(x)); });
    case UNARY_SILU:
      return for_each(in, out, [](float x) { return x * sigmoid(x); });
    case UNARY_SIN: /* Sine */
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
    case UNARY_EXP: /* these are not computed in integers */
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
    return missing_case<int64_t>();
  }
};
static_assert(compiled_for_host<&Unary::operator()<1>>);

/* A kernel of its own: for large numbers sin takes more registers than the others, and a stack. */
struct Sine {
  static constexpr int inputs = 1;

  template <int WIDTH> __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
    for_each(in, out, [](float x) { return sinf(x); });
  }

  __device__ int64_t integer(const int64_t (&)[1]) const { return missing_case<int64_t>(); }
};

} // namespace

extern "C" cudaError_t launch_unary(Launch launch, const ElementwisePlan *plan, UnaryOp op) {
  return op == UNARY_SIN ? launch_elementwise(launch, plan, Sine{}) : launch_elementwise(launch, plan, Unary{op});
}
