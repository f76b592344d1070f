/* Elementwise arithmetic: y = f(x), z = f(x, y), a choice between two inputs, and clamping. */
#include "core/activation.h"
#include "elementwise.cuh"

namespace {

constexpr float sqrt_half = 0.70710678118654752f;
constexpr float inverse_sqrt_two_pi = 0.39894228040143268f;

/* Φ(x), accurate in its lower tail as well. */
__device__ inline float normal_distribution(float x) { return 0.5f * erfcf(-x * sqrt_half); }

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ inline float normal_density(float x) { return inverse_sqrt_two_pi * expf(-0.5f * x * x); }

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[1][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k]);
}

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[2][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k], in[1][k]);
}

/* The operation is chosen once a vector, by a branch that is the same for the whole grid. */
struct Unary {
  static constexpr int inputs = 1;
  UnaryOp op;

  template <int WIDTH> __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
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
    case UNARY_GELU_TANH:
      return for_each(in, out, [](float x) { return x * sigmoid(gelu_tanh_argument(x)); });
    case UNARY_SILU:
      return for_each(in, out, [](float x) { return x * sigmoid(x); });
    default:
      return for_each(in, out, [](float x) { return x * normal_distribution(x); });
    }
  }

  __device__ int64_t integer(const int64_t (&in)[1]) const {
    const int64_t x = in[0];
    switch (op) {
    case UNARY_NEG:
      return (int64_t)(0 - (uint64_t)x);
    case UNARY_ABS:
      return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
    default:
      return x < 0 ? 0 : x; /* relu; the others are not computed in integers */
    }
  }
};

struct Binary {
  static constexpr int inputs = 2;
  BinaryOp op;

  template <int WIDTH> __device__ void operator()(const float (&in)[2][WIDTH], float (&out)[WIDTH]) const {
    switch (op) {
    case BINARY_ADD:
      return for_each(in, out, [](float a, float b) { return a + b; });
    case BINARY_SUB:
      return for_each(in, out, [](float a, float b) { return a - b; });
    case BINARY_MUL:
      return for_each(in, out, [](float a, float b) { return a * b; });
    case BINARY_DIV:
      return for_each(in, out, [](float a, float b) { return a / b; });
    case BINARY_POW:
      return for_each(in, out, [](float a, float b) { return powf(a, b); });
    case BINARY_MAXIMUM:
      return for_each(in, out, [](float a, float b) { return a > b || a != a ? a : b; });
    case BINARY_MINIMUM:
      return for_each(in, out, [](float a, float b) { return a < b || a != a ? a : b; });
    case BINARY_EQ:
      return for_each(in, out, [](float a, float b) { return a == b ? 1.0f : 0.0f; });
    case BINARY_NE:
      return for_each(in, out, [](float a, float b) { return a != b ? 1.0f : 0.0f; });
    case BINARY_LT:
      return for_each(in, out, [](float a, float b) { return a < b ? 1.0f : 0.0f; });
    case BINARY_LE:
      return for_each(in, out, [](float a, float b) { return a <= b ? 1.0f : 0.0f; });
    case BINARY_GT:
      return for_each(in, out, [](float a, float b) { return a > b ? 1.0f : 0.0f; });
    case BINARY_GE:
      return for_each(in, out, [](float a, float b) { return a >= b ? 1.0f : 0.0f; });
    case BINARY_TANH_BACKWARD:
      return for_each(in, out, [](float g, float y) { return g * (1.0f - y * y); });
    case BINARY_SIGMOID_BACKWARD:
      return for_each(in, out, [](float g, float y) { return g * y * (1.0f - y); });
    case BINARY_RELU_BACKWARD:
      return for_each(in, out, [](float g, float x) { return x > 0.0f ? g : 0.0f; });
    case BINARY_GELU_TANH_BACKWARD:
      return for_each(in, out, [](float g, float x) {
        const float bounded = gelu_tanh_bounded(x), s = sigmoid(gelu_tanh_argument(bounded));
        return g * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
      });
    case BINARY_SILU_BACKWARD:
      return for_each(in, out, [](float g, float x) {
        const float s = sigmoid(x);
        return g * s * (1.0f + x * (1.0f - s));
      });
    default:
      return for_each(in, out, [](float g, float x) { return g * (normal_distribution(x) + x * normal_density(x)); });
    }
  }

  /* Wraps around 64 bits. */
  __device__ int64_t integer(const int64_t (&in)[2]) const {
    const int64_t a = in[0], b = in[1];
    switch (op) {
    case BINARY_ADD:
      return (int64_t)((uint64_t)a + (uint64_t)b);
    case BINARY_SUB:
      return (int64_t)((uint64_t)a - (uint64_t)b);
    case BINARY_MUL:
      return (int64_t)((uint64_t)a * (uint64_t)b);
    case BINARY_MAXIMUM:
      return a > b ? a : b;
    case BINARY_MINIMUM:
      return a < b ? a : b;
    case BINARY_EQ:
      return a == b;
    case BINARY_NE:
      return a != b;
    case BINARY_LT:
      return a < b;
    case BINARY_LE:
      return a <= b;
    case BINARY_GT:
      return a > b;
    default:
      return a >= b; /* the others are not computed in integers */
    }
  }
};

/* Inputs: condition, a, b. */
struct Where {
  static constexpr int inputs = 3;

  template <int WIDTH> __device__ void operator()(const float (&in)[3][WIDTH], float (&out)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) out[k] = in[0][k] != 0.0f ? in[1][k] : in[2][k];
  }

  __device__ int64_t integer(const int64_t (&in)[3]) const { return in[0] != 0 ? in[1] : in[2]; }
};

/* Inputs: x, low, high. Comparisons with NaN are false, so NaN stays. */
struct Clamp {
  static constexpr int inputs = 3;

  template <int WIDTH> __device__ void operator()(const float (&in)[3][WIDTH], float (&out)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const float raised = in[0][k] < in[1][k] ? in[1][k] : in[0][k];
      out[k] = raised > in[2][k] ? in[2][k] : raised;
    }
  }

  __device__ int64_t integer(const int64_t (&in)[3]) const {
    const int64_t raised = in[0] < in[1] ? in[1] : in[0];
    return raised > in[2] ? in[2] : raised;
  }
};

} // namespace

extern "C" cudaError_t launch_unary(Launch launch, const ElementwisePlan *plan, UnaryOp op) {
  return launch_elementwise(launch, plan, Unary{op});
}

extern "C" cudaError_t launch_binary(Launch launch, const ElementwisePlan *plan, BinaryOp op) {
  return launch_elementwise(launch, plan, Binary{op});
}

extern "C" cudaError_t launch_where(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Where{});
}

extern "C" cudaError_t launch_clamp(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Clamp{});
}
