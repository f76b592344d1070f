/* Codes and transposed codes of the gradient of cross-entropy, made from the logits, whose gradient is never in memory. */
#include "cross_entropy.cuh"
#include "quantize/transposed.cuh"

namespace {

struct LogitGradient {
  static constexpr bool of_gradient = false;
  CrossEntropyPlan plan;

  struct Row {
    RowGradient gradient;
    bool ignored;
  };

  __device__ Row row(int64_t row) const {
    const RowTarget target = row_label(plan, row);
    const float maximum = plan.statistics[2 * row], sum = plan.statistics[2 * row + 1];
    return {RowGradient(target, maximum, sum, plan.dloss[row * plan.dloss_stride]), target.ignored};
  }

  template <typename Scalar> __device__ uint4 of(const Row &row, int64_t column, uint4 logits, uint4) const {
    float value[vector_width<Scalar>];
    if (row.ignored) return make_uint4(0, 0, 0, 0);
    unpack<Scalar>(logits, value);
    row.gradient.template apply<Scalar>(plan.weight, column, value);
    return pack<Scalar>(value);
  }
};

} // namespace

extern "C" cudaError_t launch_quantize_logits(Launch launch, const TransposePlan *plan, const CrossEntropyPlan *rows) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  const LogitGradient source = {*rows};
  return with_float8(plan->quantize.format, [&](auto format) {
    constexpr Encoding encoding = encoding_of_code<decltype(format)>;
    return plan->quantize.dtype == DTYPE_BF16 ? run_transposed<BFloat16, encoding, false>(launch, *plan, source)
                                              : run_transposed<Half, encoding, false>(launch, *plan, source);
  });
}
