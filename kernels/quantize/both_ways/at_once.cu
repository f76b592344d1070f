/* Codes of a matrix with the scales of whole rows and, transposed, of whole columns in a single launch: of one whose patches
 * all fit in the registers of the thread blocks that the device holds at once, as a weight's do. Each thread block measures
 * its patch, the grid waits, and each finds the largest magnitudes of its rows and columns among those of the patches beside
 * and below one another. */
#include <cooperative_groups.h>

#include "quantize/both_ways/both_ways.cuh"

namespace {

/* The largest of `count` words, `step` apart, that other thread blocks have written. */
__device__ inline uint32_t largest_of(const uint32_t *words, int64_t count, int64_t step) {
  uint32_t largest = 0;
#pragma unroll 8
  for (int64_t i = 0; i < count; i++) largest = max(largest, __ldcg(words + i * step));
  return largest;
}

template <typename Scalar, Encoding ENCODING>
__global__ void __launch_bounds__(BLOCK, blocks_each<Scalar>)
    quantize_both_ways_at_once_kernel(const __grid_constant__ BothWaysPlan plan) {
  __shared__ union {
    Board<Scalar> board;
    uint4 chunks[SIDE * RUNS];
  } shared;
  __shared__ ColumnScales columns;
  __shared__ uint32_t row_magnitudes[SIDE];
  const int64_t across = patches_across(plan), down = divide_up(plan.rows, (int64_t)SIDE);
  const Place place = place_of(plan, blockIdx.x, across);
  Runs<Scalar> runs;
  runs.load(plan, place);
  const uint32_t magnitude = runs.row_magnitude();
  const int64_t own = row_of(place, place.run);
  if (place.run < PASSES && own < plan.rows) {
    plan.row_magnitudes[place.patch_column / SIDE * plan.rows + own] = magnitude;
  }
  post_columns<Scalar>(runs, place, plan.partials != nullptr, shared.board);
  const int64_t column = place.patch_column + threadIdx.x, row = place.patch_row + threadIdx.x - SIDE;
  const bool has_column = threadIdx.x < SIDE && column < plan.columns;
  if (has_column) {
    plan.column_magnitudes[place.patch_row / SIDE * plan.columns + column] =
        column_magnitude<Scalar>(shared.board, threadIdx.x);
  }
  if (plan.partials) write_sums<Scalar>(plan, place, shared.board);

  cooperative_groups::this_grid().sync();

  bool plain = true;
  if (has_column) {
    const uint32_t largest = largest_of(plan.column_magnitudes + column, down, plan.columns);
    plain = set_column<ENCODING>(plan, place, largest, false, columns);
  } else if (threadIdx.x >= SIDE) {
    row_magnitudes[threadIdx.x - SIDE] = row < plan.rows ? largest_of(plan.row_magnitudes + row, across, plan.rows) : 0;
  }
  __syncthreads();
  const int own_row = place.first_row + place.run % PASSES * ROWS_AT_ONCE;
  write_rows<Scalar, ENCODING>(plan, place, runs, row_magnitudes[own_row], false);
  encode_patch<Scalar, ENCODING>(plan, place, runs, plain, columns, shared.chunks);
  __syncthreads();
  write_patch(plan, place, shared.chunks);
}

const void *kernel_of(const BothWaysPlan &plan) {
  return with_scalar(plan.dtype, [&](auto scalar) {
    return with_float8(plan.format, [&](auto format) {
      return (const void *)quantize_both_ways_at_once_kernel<decltype(scalar), encoding_of_code<decltype(format)>>;
    });
  });
}

} // namespace

extern "C" bool both_ways_at_once(const BothWaysPlan *plan, int multiprocessors) {
  const int each = with_scalar(plan->dtype, [](auto scalar) { return blocks_each<decltype(scalar)>; });
  return patch_count(*plan) <= (int64_t)multiprocessors * each;
}

extern "C" cudaError_t launch_quantize_both_ways_at_once(Launch launch, const BothWaysPlan *plan) {
  void *arguments[] = {const_cast<BothWaysPlan *>(plan)};
  return cudaLaunchCooperativeKernel(kernel_of(*plan), dim3((unsigned)patch_count(*plan)), dim3(BLOCK), arguments, 0,
                                     launch.stream);
}
