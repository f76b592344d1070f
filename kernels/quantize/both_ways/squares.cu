/* Codes of a matrix and the same transposed, where a square of 128 rows and columns has one scale: a weight's. */
#include "quantize/both_ways/both_ways.cuh"

namespace {

template <typename Scalar, Encoding ENCODING>
__global__ void __launch_bounds__(BLOCK, blocks_each<Scalar>)
    quantize_squares_kernel(const __grid_constant__ SquaresPlan squares) {
  __shared__ uint4 chunks[SIDE * RUNS];
  const BothWaysPlan &plan = squares.both;
  const Place place = place_of(plan, blockIdx.x, patches_across(plan));
  Runs<Scalar> runs;
  runs.load(plan, place);
  uint32_t largest = 0;
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) largest = raise<Scalar>(largest, runs.word_of_row(pass));
  largest = combine_across<BLOCK>(magnitude_bits(largest, Scalar()), [](uint32_t a, uint32_t b) { return max(a, b); });
  const float scale = scale_of_magnitude(largest, dtype_of<ENCODING>, plan.row_rounding);
  const int64_t down = place.patch_row / SIDE, over = place.patch_column / SIDE;
  if (threadIdx.x == 0) {
    plan.row_scale[down * squares.row_pitch + over] = scale;
    plan.column_scale[over * squares.column_pitch + down] = scale;
  }
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    const int64_t row = row_of(place, pass), at = row * plan.columns + place.column;
    if (row >= plan.rows || place.column >= plan.columns) continue;
    const uint4 codes = encode_row<Scalar, ENCODING>(plan, runs, pass, at, {scale, 1.0f / scale});
    store_vector(reinterpret_cast<uint4 *>(plan.codes + at), codes);
    chunks[chunk_at(place.first_row + pass * ROWS_AT_ONCE, place.run)] = codes;
  }
  __syncthreads();
  write_patch(plan, place, chunks);
}

template <typename Scalar, Encoding ENCODING> cudaError_t run(Launch launch, const SquaresPlan &plan) {
  quantize_squares_kernel<Scalar, ENCODING><<<(unsigned)patch_count(plan.both), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_quantize_squares(Launch launch, const SquaresPlan *plan) {
  return with_scalar(plan->both.dtype, [&](auto scalar) {
    return with_float8(plan->both.format, [&](auto format) {
      return run<decltype(scalar), encoding_of_code<decltype(format)>>(launch, *plan);
    });
  });
}
