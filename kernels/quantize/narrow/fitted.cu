/* Quantization in small blocks whose scales are fitted: as quantize.cu, but that scales are chosen by what they leave. */
#include "quantize/narrow/fitted.cuh"
#include "quantize/narrow/narrow.h"
#include "quantize/narrow/quantize.cuh"

namespace {

/* Thread blocks of a multiprocessor: of more, the search's registers would be spilled. */
constexpr int each = 5;

/* As upper_of_way. */
__device__ inline UpperScale upper_of_fitted_way(const WayPlan &way, const FitRule &fit, uint32_t magnitude) {
  if (!way.maxima) return no_upper_scale(&way.quantize.rule);
  const float absmax = float_from_bits(magnitude < infinity_bits ? magnitude : nan_bits);
  return fitted_upper_scale(&fit, &way.quantize.rule, absmax);
}

template <typename Scalar, Rounding ROUNDING, int TEAM, Fitting FITTING>
__global__ void __launch_bounds__(BLOCK, each) quantize_fitted_kernel(const __grid_constant__ FittedWaysPlan plan) {
  const WaysPlan &ways = plan.ways;
  quantize_patches<Scalar, ROUNDING, TEAM>(
      ways, [&](int w, uint32_t magnitude) { return upper_of_fitted_way(ways.way[w], plan.fit[w].rule, magnitude); },
      [&](int w, const PatchState &state, PatchStage<TEAM> &stage, int64_t first_row, int64_t first_column,
          Findings &findings) {
        fit_scales<Scalar, FITTING>(ways.way[w], plan.fit[w], state, stage, first_row, first_column, findings);
      });
}

/* --- launching --- */

bool has_plain_candidates(const FittedWaysPlan &plan) {
  for (int i = 0; i < plan.ways.count; i++) {
    const FitRule &fit = plan.fit[i].rule;
    const ScaleRule &rule = plan.ways.way[i].quantize.rule;
    const bool exact = rule.rounding == SCALE_EXACT && rule.headroom == 1 && rule.constant == 0;
    if (!(exact || rule.rounding == SCALE_E4M3) || fit.candidates < 2 || fit_is_summing(&fit)) return false;
  }
  return true;
}

template <typename Scalar, Rounding ROUNDING, int TEAM> cudaError_t run(Launch launch, const FittedWaysPlan &plan) {
  const auto kernel = has_plain_candidates(plan) ? quantize_fitted_kernel<Scalar, ROUNDING, TEAM, PLAIN_CANDIDATES>
                                                 : quantize_fitted_kernel<Scalar, ROUNDING, TEAM, ANY_FIT>;
  kernel<<<grid_of_patches<TEAM>(plan.ways), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, Rounding ROUNDING> cudaError_t run(Launch launch, const FittedWaysPlan &plan) {
  return narrow_team(plan.ways) == 2 ? run<Scalar, ROUNDING, 2>(launch, plan) : run<Scalar, ROUNDING, 1>(launch, plan);
}

} // namespace

extern "C" cudaError_t launch_quantize_fitted(Launch launch, const FittedWaysPlan *plan) {
  return with_narrow(plan->ways.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (plan->ways.way[0].quantize.stochastic) return run<Scalar, STOCHASTIC>(launch, *plan);
    return run<Scalar, NEAREST>(launch, *plan);
  });
}
