/* Scales of candidates, and which of them is chosen. */
#ifndef FP8_FITTED_SCALE_SCALES_CUH
#define FP8_FITTED_SCALE_SCALES_CUH

#include "fitted_scale/fitted_scale.h"
#include "quantize/encode.cuh"

namespace {

__device__ inline bool uses_upper(const FittedPlan &plan) { return plan.quantize.rule.rounding == SCALE_E4M3; }

/* Not inlined: the compiler would have all threads work out what few of them need. */
__device__ __noinline__ UpperScale upper_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  if (!quantize.upper) return no_upper_scale(&quantize.rule);
  const int64_t i = quantize.upper_each > 0 ? divide(block, quantize.upper_each) : 0;
  return fitted_upper_scale(&plan.fit, &quantize.rule, quantize.upper[i]);
}

__device__ __noinline__ float unusual_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude,
                                            int i) {
  return fitted_scale(&plan.fit, i, &plan.quantize.rule, &upper, magnitude);
}

/* fitted_scale, with the chip's conversions, and in few steps where most is as usual. */
__device__ inline float candidate_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, int i) {
  const ScaleRule &rule = plan.quantize.rule;
  if (!plan.usual || magnitude >= infinity_bits) return unusual_scale(plan, upper, magnitude, i);
  const float largest = fminf(float_from_bits(magnitude) * plan.fit.factor[i], FLT_MAX);
  if (rule.rounding == SCALE_EXACT) return largest / rule.largest;
  float stored, unused;
  Encoder<ENCODING_E4M3>::numbers(Encoder<ENCODING_E4M3>::pair(largest * upper.encode, 0.0f), stored, unused);
  const BlockScaling scaling = scaling_below(stored, &upper);
  return upper.encode == upper.encode ? scaling.scale : float_from_bits(nan_bits);
}

/* The first of candidates with the least error, error_of(scale, i, least), where `least` is that of the ones before; all
 * lanes of a warp together. */
template <typename F>
__device__ inline float chosen_scale(const FittedPlan &plan, const UpperScale &upper, uint32_t magnitude, F error_of) {
  float best = 0;
  decltype(error_of(best, 0, best)) least = 0;
  int i = 0;
  do {
    const float scale = candidate_scale(plan, upper, magnitude, i);
    if (plan.fit.candidates < 2) return scale;
    const auto error = error_of(scale, i, least);
    if (i == 0 || error < least) {
      best = scale;
      least = error;
    }
  } while (++i < plan.fit.candidates);
  return best;
}

} // namespace

#endif
