/* Dequantization of a matrix in tiles: x[r][c] = value(code[r][c]) · the scale of its tile, rounded to the output's
 * dtype. */
#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 256 };

/* WIDTH codes at a time, all of one row. */
template <int WIDTH>
__global__ void __launch_bounds__(BLOCK) dequantize_tiles_kernel(const __grid_constant__ TilesPlan tiles) {
  __shared__ __align__(16) float entries[MAP_SIZE];
  const QuantizePlan &plan = tiles.quantize;
  if (plan.map) stage_table(entries, plan.map, sizeof entries); /* values come first in it */
  for (int64_t i = global_thread(); i < plan.count / WIDTH; i += global_threads()) {
    const int64_t row = divide(i * WIDTH, tiles.columns), column = i * WIDTH - row * tiles.columns;
    const float *scale = plan.scale + divide(row, tiles.tile_rows) * tiles.tiles_across;
    const auto codes = *reinterpret_cast<const Packed<uint8_t, WIDTH> *>(plan.codes + i * WIDTH);
    float value[WIDTH];
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      value[k] = decode<ENCODING_ANY>(plan, entries, codes.element[k]) * scale[divide(column + k, tiles.tile_columns)];
    }
    store_values(plan, i * WIDTH, value);
  }
}

template <int WIDTH> cudaError_t run(Launch launch, const TilesPlan &plan) {
  const int grid = grid_size(launch, divide_up(plan.quantize.count, WIDTH), BLOCK, 16);
  dequantize_tiles_kernel<WIDTH><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_dequantize_tiles(Launch launch, const TilesPlan *plan) {
  if (plan->quantize.count == 0) return cudaSuccess;
  switch (plan->width) {
  case 1:
    return run<1>(launch, *plan);
  case 4:
    return run<4>(launch, *plan);
  case 8:
    return run<8>(launch, *plan);
  }
  trap_missing_case();
}
