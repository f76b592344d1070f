/* Codes of a matrix with scales along its rows and, transposed, with scales along its columns, for products that contract
 * over columns and over rows.
 *
 * Scales of runs of 128 are known where a patch is: x is read once. Scales of whole rows and columns take a first pass,
 * which leaves their largest magnitudes in memory; integer maxima do not depend on their order, so atomic ones give the same
 * bits in every run. */
#include "following.cuh"
#include "quantize/both_ways/both_ways.cuh"

namespace {

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK, blocks_each<Scalar>)
    measure_both_ways_kernel(const __grid_constant__ BothWaysPlan plan) {
  __shared__ Board<Scalar> board;
  __shared__ uint32_t row_magnitudes[SIDE];
  const Place place = place_of(plan, blockIdx.x, patches_across(plan));
  Runs<Scalar> runs;
  runs.load(plan, place);
  const uint32_t magnitude = runs.row_magnitude();
  if (place.run < PASSES) row_magnitudes[place.first_row + place.run * ROWS_AT_ONCE] = magnitude;
  post_columns<Scalar>(runs, place, plan.partials != nullptr, board);
  if (threadIdx.x < SIDE) {
    const int64_t row = place.patch_row + threadIdx.x;
    if (row < plan.rows) atomicMax(plan.row_magnitudes + row, row_magnitudes[threadIdx.x]);
  } else {
    const int64_t column = place.patch_column + threadIdx.x - SIDE;
    if (column < plan.columns) {
      atomicMax(plan.column_magnitudes + column, column_magnitude<Scalar>(board, threadIdx.x - SIDE));
    }
  }
  if (plan.partials) write_sums<Scalar>(plan, place, board);
}

/* BY_RUNS: the patch's own magnitudes make its scales. */
template <typename Scalar, Encoding ENCODING, bool BY_RUNS>
__global__ void __launch_bounds__(BLOCK, blocks_each<Scalar>)
    quantize_both_ways_kernel(const __grid_constant__ BothWaysPlan plan) {
  /* The board is read before the patch is written. */
  __shared__ union {
    Board<Scalar> board;
    uint4 chunks[SIDE * RUNS];
  } shared;
  __shared__ ColumnScales columns;
  /* After a pass over the whole matrix its end is still in the cache, so that comes first. */
  const int64_t patch = BY_RUNS ? blockIdx.x : gridDim.x - 1 - blockIdx.x;
  const Place place = place_of(plan, patch, patches_across(plan));
  Runs<Scalar> runs;
  runs.load(plan, place);
  if (plan.partials) let_next_start();
  const int64_t column = place.patch_column + threadIdx.x;
  const bool has_column = threadIdx.x < SIDE && column < plan.columns;
  const int64_t own_row = row_of(place, place.run % PASSES);
  uint32_t magnitude = 0, largest = 0;
  if (BY_RUNS) {
    magnitude = runs.row_magnitude();
  } else {
    if (own_row < plan.rows) magnitude = plan.row_magnitudes[own_row];
    if (has_column) largest = plan.column_magnitudes[column];
  }
  write_rows<Scalar, ENCODING>(plan, place, runs, magnitude, BY_RUNS);
  if (BY_RUNS) {
    post_columns<Scalar>(runs, place, plan.partials != nullptr, shared.board);
    if (has_column) largest = column_magnitude<Scalar>(shared.board, threadIdx.x);
    if (plan.partials) write_sums<Scalar>(plan, place, shared.board);
  }
  const bool plain = !has_column || set_column<ENCODING>(plan, place, largest, BY_RUNS, columns);
  encode_patch<Scalar, ENCODING>(plan, place, runs, plain, columns, shared.chunks);
  __syncthreads();
  write_patch(plan, place, shared.chunks);
}

template <typename Kernel> cudaError_t run(Kernel kernel, Launch launch, const BothWaysPlan &plan) {
  kernel<<<(unsigned)patch_count(plan), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, Encoding ENCODING> cudaError_t run_format(Launch launch, const BothWaysPlan &plan) {
  return plan.row_magnitudes ? run(quantize_both_ways_kernel<Scalar, ENCODING, false>, launch, plan)
                             : run(quantize_both_ways_kernel<Scalar, ENCODING, true>, launch, plan);
}

} // namespace

extern "C" cudaError_t launch_measure_both_ways(Launch launch, const BothWaysPlan *plan) {
  return with_scalar(plan->dtype,
                     [&](auto scalar) { return run(measure_both_ways_kernel<decltype(scalar)>, launch, *plan); });
}

extern "C" cudaError_t launch_quantize_both_ways(Launch launch, const BothWaysPlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) {
    return with_float8(plan->format, [&](auto format) {
      return run_format<decltype(scalar), encoding_of_code<decltype(format)>>(launch, *plan);
    });
  });
}
