/* The gradient of a row of logits, for the kernels of cross-entropy and for the one that quantizes it as it is made. */
#ifndef FP8_CROSS_ENTROPY_CUH
#define FP8_CROSS_ENTROPY_CUH

#include "rows.cuh"

namespace {

/* What a row is compared with. */
struct RowTarget {
  int64_t label;
  bool ignored, out_of_range;
  SoftTarget soft;
  float logit, pivot; /* the label's logit; core/operations.h */
};

/* Without the logit and its pivot. */
__device__ inline RowTarget row_label(const CrossEntropyPlan &plan, int64_t row) {
  RowTarget target = {load_integer(plan.target, plan.target_dtype, row)};
  target.ignored = plan.ignores && target.label == plan.ignored;
  target.out_of_range = !target.ignored && (target.label < 0 || target.label >= plan.logits.columns);
  if (target.ignored || target.out_of_range) return target;
  target.soft = soft_target(plan.weight ? plan.weight[target.label] : 1.0f, plan.smoothing, plan.logits.columns);
  return target;
}

__device__ inline RowTarget row_target(const CrossEntropyPlan &plan, int64_t row) {
  const MatrixRows &logits = plan.logits;
  RowTarget target = row_label(plan, row);
  if (target.ignored || target.out_of_range) return target;
  target.logit = load_float(logits.data, logits.dtype, row * logits.columns + target.label);
  target.pivot = logit_pivot(target.logit);
  return target;
}

/* What a row's gradients are made with: the factor is dloss · Σ q over the sum of exponentials, own and share are those
 * of the target times dloss. A row whose target is out of range gets no one subtracted. */
struct RowGradient {
  float maximum, factor, own, share;
  int64_t label;

  __device__ RowGradient(const RowTarget &target, float maximum, float sum, float dloss)
      : maximum(maximum), factor(dloss / sum), own(target.soft.own * dloss), share(target.soft.share * dloss),
        label(target.label) {}

  /* Elements `column` … of the row become their gradients. */
  template <typename Scalar, int N>
  __device__ void apply(const float *weight, int64_t column, float (&value)[N]) const {
#pragma unroll
    for (int k = 0; k < N; k++) value[k] = exponential<Scalar>(value[k] - maximum) * factor;
    if (label / N == column / N) {
#pragma unroll
      for (int k = 0; k < N; k++) value[k] -= label % N == k ? own : 0.0f;
    }
    if (share != 0.0f) {
#pragma unroll
      for (int k = 0; k < N; k++) value[k] -= weight ? share * weight[column + k] : share;
    }
  }
};

} // namespace

#endif
