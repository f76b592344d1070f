/* Quantization in small blocks whose scales are fitted: as quantize.cu, but that scales are chosen by what they leave. */
#include "quantize/narrow/fitted.cuh"
#include "quantize/narrow/narrow.h"
#include "quantize/narrow/rounding.cuh"

namespace {

/* Thread blocks of a multiprocessor. */
template <Rounding ROUNDING, int TEAM> constexpr int each = TEAM > 1 && ROUNDING == STOCHASTIC ? 5 : 6;

__device__ inline void find_fitted_states(const FittedWaysPlan &plan, PatchState *states) {
  find_states(plan.ways, states);
  if (threadIdx.x < plan.ways.count && plan.ways.way[threadIdx.x].maxima) {
    PatchState &state = states[threadIdx.x];
    state.upper =
        fitted_upper_scale(&plan.fit[threadIdx.x].rule, &plan.ways.way[threadIdx.x].quantize.rule, state.upper.absmax);
  }
  __syncthreads();
}

template <typename Scalar, Rounding ROUNDING, int TEAM>
__global__ void __launch_bounds__(BLOCK, each<ROUNDING, TEAM>)
    quantize_fitted_kernel(const __grid_constant__ FittedWaysPlan fitted) {
  constexpr int teams = WARPS / TEAM, height = TEAM * WARP_ROWS;
  __shared__ PatchState states[WAYS_MOST];
  __shared__ PatchStage<TEAM> stages[teams];
  const WaysPlan &plan = fitted.ways;
  const int team = threadIdx.x / (WARP * TEAM);
  PatchStage<TEAM> &stage = stages[team];
  const unsigned across = (unsigned)(plan.columns / PATCH_COLUMNS), count = (unsigned)(plan.rows / height) * across;
  const unsigned i = blockIdx.x * teams + team;
  const bool exists = i < count;
  const unsigned number = exists ? count - 1 - i : 0, down = number / across;
  const int64_t first_row = (int64_t)down * height, first_column = (int64_t)(number - down * across) * PATCH_COLUMNS;
  const int64_t at = (first_row + first_row_of_lane<TEAM>()) * plan.columns + first_column + threadIdx.x % VECTORS * 8;
  const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + at);
  if (exists) fetch_patch(stage, from, plan.columns / 8);
  find_fitted_states(fitted, states);
  if (!exists) return;
#pragma unroll 1
  for (int w = 0; w < plan.count; w++) {
    const WayPlan &way = plan.way[w];
    if (w > 0 && plan.way[w - 1].hadamard.length > 0) fetch_patch(stage, from, plan.columns / 8);
    await_patch<TEAM>();
    Findings findings = {0, 0.0f, 0.0f};
    fit_scales<Scalar>(way, fitted.fit[w], states[w], stage, first_row, first_column, findings);
    round_any<Scalar, ROUNDING>(way, states[w], stage, findings, at, plan.columns);
    wait_for_team<TEAM>(); /* before the stage is written again */
  }
}

/* --- launching --- */

template <typename Scalar, Rounding ROUNDING, int TEAM> cudaError_t run(Launch launch, const FittedWaysPlan &plan) {
  const int64_t patches = plan.ways.rows / (TEAM * WARP_ROWS) * (plan.ways.columns / PATCH_COLUMNS);
  const unsigned grid = (unsigned)divide_up(patches, (int64_t)(WARPS / TEAM));
  quantize_fitted_kernel<Scalar, ROUNDING, TEAM><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" bool quantizes_fitted(const WaysPlan *ways) { return quantizes_narrow(*ways); }

extern "C" cudaError_t launch_quantize_fitted(Launch launch, const FittedWaysPlan *plan) {
  const int team = narrow_team(plan->ways);
  return with_narrow(plan->ways.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (plan->ways.way[0].quantize.stochastic) {
      return team == 2 ? run<Scalar, STOCHASTIC, 2>(launch, *plan) : run<Scalar, STOCHASTIC, 1>(launch, *plan);
    }
    return team == 2 ? run<Scalar, NEAREST, 2>(launch, *plan) : run<Scalar, NEAREST, 1>(launch, *plan);
  });
}
