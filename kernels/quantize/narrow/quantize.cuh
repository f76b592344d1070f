/* What the kernels have in common that quantize patches: a team takes one, finds its scales and rounds it, for each way. */
#ifndef FP8_NARROW_QUANTIZE_CUH
#define FP8_NARROW_QUANTIZE_CUH

#include "quantize/narrow/rounding.cuh"

namespace {

/* By thread blocks of BLOCK threads; upper_of as find_states takes it; scale(w, state, stage, first_row, first_column,
 * findings) leaves the factors of way w in the stage, and may transform its patch. */
template <typename Scalar, Rounding ROUNDING, int TEAM, typename F, typename G>
__device__ inline void quantize_patches(const WaysPlan &plan, const F &upper_of, const G &scale) {
  constexpr int teams = WARPS / TEAM, height = TEAM * WARP_ROWS;
  __shared__ PatchState states[WAYS_MOST];
  __shared__ PatchStage<TEAM> stages[teams];
  const int team = threadIdx.x / (WARP * TEAM);
  PatchStage<TEAM> &stage = stages[team];
  const unsigned across = (unsigned)(plan.columns / PATCH_COLUMNS), count = (unsigned)(plan.rows / height) * across;
  const unsigned i = blockIdx.x * teams + team;
  const bool exists = i < count;
  /* After a pass over the whole tensor its end is still in the cache. */
  const unsigned number = exists ? count - 1 - i : 0, down = number / across;
  const int64_t first_row = (int64_t)down * height, first_column = (int64_t)(number - down * across) * PATCH_COLUMNS;
  const int64_t at = (first_row + first_row_of_lane<TEAM>()) * plan.columns + first_column + threadIdx.x % VECTORS * 8;
  const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + at);
  if (exists) fetch_patch(stage, from, plan.columns / 8);
  find_states(plan, states, upper_of);
  if (!exists) return;
#pragma unroll 1
  for (int w = 0; w < plan.count; w++) {
    const WayPlan &way = plan.way[w];
    if (w > 0 && plan.way[w - 1].hadamard.length > 0) fetch_patch(stage, from, plan.columns / 8);
    await_patch<TEAM>();
    Findings findings = {0, 0.0f, 0.0f};
    scale(w, states[w], stage, first_row, first_column, findings);
    round_any<Scalar, ROUNDING>(way, states[w], stage, findings, at, plan.columns);
    if (w + 1 < plan.count) wait_for_team<TEAM>(); /* before the stage is written again */
  }
}

/* Thread blocks for all patches. */
template <int TEAM> unsigned grid_of_patches(const WaysPlan &plan) {
  const int64_t patches = plan.rows / (TEAM * WARP_ROWS) * (plan.columns / PATCH_COLUMNS);
  return (unsigned)divide_up(patches, (int64_t)(WARPS / TEAM));
}

} // namespace

#endif
