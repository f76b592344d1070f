/* z = f(x, y). */
#include "elementwise/activation.cuh"
#include "elementwise/elementwise.cuh"
#include "vectors.cuh"

namespace {

template <int WIDTH, typename F>
__device__ inline void for_each(const float (&in)[2][WIDTH], float (&out)[WIDTH], F f) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) out[k] = f(in[0][k], in[1][k]);
}

__host__ __device__ inline float gelu_tanh_backward(float g, float x) {
  const float bounded = gelu_tanh_bounded(x), s = sigmoid(gelu_tanh_argument(bounded));
  return g * (s + bounded * s * (1.0f - s) * gelu_tanh_slope(bounded));
}

__host__ __device__ inline float silu_backward(float g, float x) {
  const float s = sigmoid(x);
  return g * s * (1.0f + x * (1.0f - s));
}

/* ln(1 + e^(b x)) / b, where e is never taken to a large power. */
__host__ __device__ inline float softplus(float x, float b) {
  const float scaled = b * x;
  return ((scaled > 0.0f ? scaled : 0.0f) + log1pf(expf(-fabsf(scaled)))) / b;
}

/* What is chosen once a vector, by a branch that is the same for the whole grid. */
#define EACH(OP, value)                                                                                                \
  case BINARY_##OP:                                                                                                    \
    return for_each(in, out, [](float a, float b) { return value; })

/* Kernels of their own, as in unary.cu. */
#define ALONE(OPERATION)                                                                                               \
  OPERATION(POW, (b == 3.0f ? a * a * a : powf(a, b)))                                                                 \
  OPERATION(ATAN2, atan2f(a, b))                                                                                       \
  OPERATION(HYPOT, hypotf(a, b))                                                                                       \
  OPERATION(REMAINDER, remainder_of_floats(fmodf(a, b), b))                                                            \
  OPERATION(SIN_BACKWARD, (a * cosf(b)))                                                                               \
  OPERATION(COS_BACKWARD, (-a * sinf(b)))

struct Binary {
  static constexpr int inputs = 2;
  BinaryOp op;

#pragma nv_exec_check_disable
  template <int WIDTH> __host__ __device__ void operator()(const float (&in)[2][WIDTH], float (&out)[WIDTH]) const {
    switch (op) {
      EACH(ADD, a + b);
      EACH(SUB, a - b);
      EACH(MUL, (a * b));
      EACH(MAXIMUM, a > b || a != a ? a : b);
      EACH(MINIMUM, a < b || a != a ? a : b);
      EACH(DIV, a / b);
      EACH(LEAKY_RELU, a > 0.0f ? a : a * b);
      EACH(ELU, a > 0.0f ? a : b * expm1f(a));
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
      EACH(TAN_BACKWARD, a * (1.0f + b * b));
      EACH(TANH_BACKWARD, a * (1.0f - b * b));
      EACH(ERF_BACKWARD, a * (TWO_OVER_SQRT_PI * expf(-b * b)));
      EACH(SIGMOID_BACKWARD, (a * b) * (1.0f - b));
      EACH(RELU_BACKWARD, b > 0.0f ? a : 0.0f);
      EACH(GELU_BACKWARD, a * (normal_distribution(b) + b * normal_density(b)));
      EACH(GELU_TANH_BACKWARD, gelu_tanh_backward(a, b));
      EACH(SILU_BACKWARD, silu_backward(a, b));
      ALONE(BINARY_CASE)
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
    case BINARY_REMAINDER:
      return remainder_of_integers(a, b);
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
      BINARY_OF_FLOATS(BINARY_CASE)
      BINARY_CHECKS(BINARY_CASE)
      BINARY_DERIVATIVES(BINARY_CASE)
      break;
    }
    return missing_case<int64_t>();
  }
};
static_assert(compiled_for_host<&Binary::operator()<1>>);

template <BinaryOp OP> __device__ float alone(float a, float b);
#define ALONE_FUNCTION(OP, value)                                                                                      \
  template <> __device__ inline float alone<BINARY_##OP>(float a, float b) { return value; }
ALONE(ALONE_FUNCTION)

template <BinaryOp OP> struct Alone {
  static constexpr int inputs = 2;

  template <int WIDTH> __device__ void operator()(const float (&in)[2][WIDTH], float (&out)[WIDTH]) const {
    for_each(in, out, alone<OP>);
  }

  __device__ int64_t integer(const int64_t (&in)[2]) const { return Binary{OP}.integer(in); }
};

/* --- comparing a tensor with a number: little is read and less written, so that a thread takes more at once --- */

enum { COMPARED = 16 /* elements that a thread has at once */ };

/* Four bytes that are 1 where f is true. */
template <typename F> __device__ inline uint32_t compare_four(const float *value, F f) {
  uint32_t word = 0;
#pragma unroll
  for (int k = 0; k < 4; k++) word |= f(value[k]) ? 1u << 8 * k : 0u;
  return word;
}

template <typename F> __device__ inline uint4 compare_all(const float (&value)[COMPARED], F f) {
  return make_uint4(compare_four(value, f), compare_four(value + 4, f), compare_four(value + 8, f),
                    compare_four(value + 12, f));
}

__host__ __device__ inline bool is_comparison(BinaryOp op) {
  return op == BINARY_EQ || op == BINARY_NE || op == BINARY_LT || op == BINARY_LE || op == BINARY_GT || op == BINARY_GE;
}

__device__ inline uint4 compare(BinaryOp op, const float (&value)[COMPARED], float b) {
  if (op == BINARY_EQ) return compare_all(value, [=](float a) { return a == b; });
  if (op == BINARY_NE) return compare_all(value, [=](float a) { return a != b; });
  if (op == BINARY_LT) return compare_all(value, [=](float a) { return a < b; });
  if (op == BINARY_LE) return compare_all(value, [=](float a) { return a <= b; });
  if (op == BINARY_GT) return compare_all(value, [=](float a) { return a > b; });
  return compare_all(value, [=](float a) { return a >= b; });
}

/* The end comes first, as in elementwise_kernel. */
template <typename T>
__global__ void __launch_bounds__(ELEMENTWISE_BLOCK)
    compare_number_kernel(uint4 *__restrict__ out, const uint4 *__restrict__ x, int64_t groups, float number,
                          BinaryOp op) {
  constexpr int WIDTH = vector_width<T>, LOADS = COMPARED / WIDTH;
  for (int64_t i = global_thread(); i < groups; i += global_threads()) {
    const int64_t group = groups - 1 - i;
    uint4 raw[LOADS];
    float value[COMPARED];
#pragma unroll
    for (int k = 0; k < LOADS; k++) raw[k] = x[group * LOADS + k];
#pragma unroll
    for (int k = 0; k < LOADS; k++) {
      float part[WIDTH];
      unpack<T>(raw[k], part);
#pragma unroll
      for (int j = 0; j < WIDTH; j++) value[k * WIDTH + j] = part[j];
    }
    out[group] = compare(op, value, number);
  }
}

/* Whether the kernel above takes it. */
bool compares_number(const ElementwisePlan *plan, BinaryOp op) {
  const ElementOperand &out = plan->operand[0], &x = plan->operand[1];
  return is_comparison(op) && !plan->integer && plan->rank == 1 && plan->count % COMPARED == 0 && x.data &&
         !plan->operand[2].data && out.dtype == DTYPE_U8 && out.stride[0] == 1 && x.stride[0] == 1 &&
         (x.dtype == DTYPE_F32 || x.dtype == DTYPE_F16 || x.dtype == DTYPE_BF16) &&
         ((uintptr_t)out.data | (uintptr_t)x.data) % sizeof(uint4) == 0;
}

cudaError_t compare_number(Launch launch, const ElementwisePlan *plan, BinaryOp op) {
  const int64_t groups = plan->count / COMPARED;
  const int grid = grid_size(launch, groups, ELEMENTWISE_BLOCK, 64);
  return with_scalar(plan->operand[1].dtype, [&](auto element) {
    compare_number_kernel<decltype(element)><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(
        static_cast<uint4 *>(plan->operand[0].data), static_cast<const uint4 *>(plan->operand[1].data), groups,
        plan->operand[2].number, op);
    return cudaGetLastError();
  });
}

} // namespace

#define LAUNCH_ALONE(OP, value)                                                                                        \
  if (op == BINARY_##OP) return launch_elementwise(launch, plan, Alone<BINARY_##OP>{});

extern "C" cudaError_t launch_binary(Launch launch, const ElementwisePlan *plan, BinaryOp op) {
  ALONE(LAUNCH_ALONE)
  if (plan->count > 0 && compares_number(plan, op)) return compare_number(launch, plan, op);
  return launch_elementwise(launch, plan, Binary{op});
}
