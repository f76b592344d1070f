/* z = f(x, y). */
#include "elementwise/activation.cuh"
#include "elementwise/elementwise.cuh"

namespace {

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[2][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k], in[1][k]);
}

/* The operation is chosen once a vector, by a branch that is the same for the whole grid. */
struct Binary {
  static constexpr int inputs = 2;
  BinaryOp op;

#pragma nv_exec_check_disable
  template <int WIDTH> __host__ __device__ void operator()(const float (&in)[2][WIDTH], float (&out)[WIDTH]) const {
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
    case BINARY_GELU_BACKWARD:
      return for_each(in, out, [](float g, float x) { return g * (normal_distribution(x) + x * normal_density(x)); });
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
    case BINARY_SIN_BACKWARD: /* SineBackward */
      break;
    }
    missing_case<void>();
  }

  /* Wraps around 64 bits. */
  __host__ __device__ int64_t integer(const int64_t (&in)[2]) const {
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
    case BINARY_GE:
      return a >= b;
    case BINARY_DIV: /* these are not computed in integers */
    case BINARY_POW:
    case BINARY_TANH_BACKWARD:
    case BINARY_SIGMOID_BACKWARD:
    case BINARY_SIN_BACKWARD:
    case BINARY_RELU_BACKWARD:
    case BINARY_GELU_BACKWARD:
    case BINARY_GELU_TANH_BACKWARD:
    case BINARY_SILU_BACKWARD:
      break;
    }
    return missing_case<int64_t>();
  }
};
static_assert(compiled_for_host<&Binary::operator()<1>>);

/* A kernel of its own, as Sine is. */
struct SineBackward {
  static constexpr int inputs = 2;

  template <int WIDTH> __device__ void operator()(const float (&in)[2][WIDTH], float (&out)[WIDTH]) const {
    for_each(in, out, [](float g, float x) { return g * cosf(x); });
  }

  __device__ int64_t integer(const int64_t (&)[2]) const { return missing_case<int64_t>(); }
};

} // namespace

extern "C" cudaError_t launch_binary(Launch launch, const ElementwisePlan *plan, BinaryOp op) {
  return op == BINARY_SIN_BACKWARD ? launch_elementwise(launch, plan, SineBackward{})
                                   : launch_elementwise(launch, plan, Binary{op});
}
