/* Quantization in small blocks of 16-bit matrices that patches divide: what the kernels of ways.cu do, in few instructions
 * and in code that is short enough for the caches of instructions.
 *
 * A warp has a patch of 32 rows and 64 columns in shared memory, or two have one of 64 rows. Scales are found, and groups
 * transformed, by lanes that hold 16 rows of two neighbouring columns, or 32 columns of a row: most sums and maxima are a
 * lane's own. For groups of 64 lanes exchange rows once, or hold a row. Then one loop rounds the patch. */
#include "quantize/narrow/narrow.h"
#include "quantize/narrow/quantize.cuh"

namespace {

/* Thread blocks of a multiprocessor: of more, registers would be spilled. */
template <Rounding ROUNDING, int TEAM> constexpr int each = TEAM > 1 && ROUNDING != NEAREST ? 5 : 6;

template <typename Scalar, Rounding ROUNDING, int TEAM>
__global__ void __launch_bounds__(BLOCK, each<ROUNDING, TEAM>)
    quantize_narrow_kernel(const __grid_constant__ WaysPlan plan) {
  quantize_patches<Scalar, ROUNDING, TEAM>(
      plan, [&](int w, uint32_t magnitude) { return upper_of_way(plan.way[w], magnitude); },
      [&](int w, const PatchState &state, PatchStage<TEAM> &stage, int64_t first_row, int64_t first_column,
          Findings &findings) {
        scale_patch<Scalar, ROUNDING == STOCHASTIC>(plan.way[w], state, stage, first_row, first_column, findings);
      });
}

/* --- launching --- */

template <typename Scalar, Rounding ROUNDING, int TEAM> cudaError_t run(Launch launch, const WaysPlan &plan) {
  quantize_narrow_kernel<Scalar, ROUNDING, TEAM><<<grid_of_patches<TEAM>(plan), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

int narrow_team(const WaysPlan &plan) {
  int team = 1;
  for (int i = 0; i < plan.count; i++) {
    const WayPlan &way = plan.way[i];
    const int length = way.hadamard.length;
    const bool of_rows = way.tile_rows <= 16 && (way.tile_columns == 16 || way.tile_columns == 32);
    const bool of_columns = way.tile_columns == 1 && way.tile_rows >= 16 && way.tile_rows <= 64;
    if (way.quantize.codes || !way.quantize.values || way.quantize.values_dtype != plan.dtype) return 0;
    if (length > 64 || !(of_rows || of_columns) || (length > 0 && way.hadamard.down != of_columns)) return 0;
    if (of_columns && (length > 32 || way.tile_rows > 32)) team = 2;
  }
  const bool divided = plan.rows % (team * WARP_ROWS) == 0 && plan.columns % PATCH_COLUMNS == 0;
  return divided && plan.dtype != DTYPE_F32 ? team : 0;
}

bool quantizes_narrow(const WaysPlan &plan) { return narrow_team(plan) > 0; }

cudaError_t launch_quantize_narrow(Launch launch, const WaysPlan &plan) {
  const int team = narrow_team(plan);
  return with_narrow(plan.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (plan.way[0].quantize.powers.count > 0) {
      return team == 2 ? run<Scalar, TO_POWERS, 2>(launch, plan) : run<Scalar, TO_POWERS, 1>(launch, plan);
    }
    if (plan.way[0].quantize.stochastic) {
      return team == 2 ? run<Scalar, STOCHASTIC, 2>(launch, plan) : run<Scalar, STOCHASTIC, 1>(launch, plan);
    }
    return team == 2 ? run<Scalar, NEAREST, 2>(launch, plan) : run<Scalar, NEAREST, 1>(launch, plan);
  });
}
