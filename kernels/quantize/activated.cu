/* Codes and transposed codes of an activation function, or of its gradient, that are never in memory themselves. */
#include "elementwise/activation.cuh"
#include "quantize/transposed.cuh"

namespace {

template <UnaryOp OP, bool GRADIENT> struct Activated {
  static constexpr bool of_gradient = GRADIENT;
  __device__ NoRow row(int64_t) const { return {}; }
  template <typename Scalar> __device__ uint4 of(const NoRow &, int64_t, uint4 x, uint4 grad) const {
    return activate<Scalar, OP, GRADIENT>(x, grad);
  }
};

/* f of the plan's Scalar, Encoding and Source, in `kinds`. */
template <typename SCALAR, Encoding ENCODING, typename SOURCE> struct Kinds {
  using Scalar = SCALAR;
  using Source = SOURCE;
  static constexpr Encoding encoding = ENCODING;
};

template <typename Source, typename F> auto with_kinds(const TransposePlan &plan, F f) {
  return with_float8(plan.quantize.format, [&](auto format) {
    constexpr Encoding encoding = encoding_of_code<decltype(format)>;
    return plan.quantize.dtype == DTYPE_BF16 ? f(Kinds<BFloat16, encoding, Source>())
                                             : f(Kinds<Half, encoding, Source>());
  });
}

template <UnaryOp OP, typename F> auto with_direction(const TransposePlan &plan, F f) {
  return plan.grad ? with_kinds<Activated<OP, true>>(plan, f) : with_kinds<Activated<OP, false>>(plan, f);
}

template <typename F> auto with_activated(const TransposePlan &plan, UnaryOp op, F f) {
  if (op == UNARY_RELU) return with_direction<UNARY_RELU>(plan, f);
  if (op == UNARY_GELU) return with_direction<UNARY_GELU>(plan, f);
  if (op == UNARY_GELU_TANH) return with_direction<UNARY_GELU_TANH>(plan, f);
  if (op == UNARY_SILU) return with_direction<UNARY_SILU>(plan, f);
  trap_missing_case();
}

} // namespace

extern "C" int quantize_activated_grid(Launch launch, const TransposePlan *plan, UnaryOp op) {
  return with_activated(*plan, op, [&](auto kinds) {
    using Kind = decltype(kinds);
    using Source = typename Kind::Source;
    return transposed_grid<typename Kind::Scalar, Kind::encoding, Source::of_gradient, Source>(launch, *plan);
  });
}

extern "C" cudaError_t launch_quantize_activated(Launch launch, const TransposePlan *plan, UnaryOp op) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  return with_activated(*plan, op, [&](auto kinds) {
    using Kind = decltype(kinds);
    using Source = typename Kind::Source;
    return run_transposed<typename Kind::Scalar, Kind::encoding, Source::of_gradient>(launch, *plan, Source());
  });
}
