/* Quantization of a matrix in tiles.
 *
 * A thread block takes a patch of up to 128 × 128 elements. A thread holds one 16-byte vector of columns in several
 * neighbouring rows, and the lanes of a warp hold neighbouring vectors. Each tile of the patch has a word in shared memory
 * for its largest magnitude, and then for its scale: patches of whole tiles are read once. Larger tiles take two passes,
 * the first of which leaves their largest magnitudes in memory.
 *
 * Integer maxima do not depend on their order, so atomic ones give the same bits in every run. */
#include "quantize/encode.cuh"
#include "quantize/tiles.cuh"

namespace {

/* --- codes --- */

/* The scales of a thread's columns. */
template <int WIDTH> struct ColumnScales {
  float scale[WIDTH], inverse[WIDTH];
  bool plain; /* none of them empty, and all inverses finite */
};

template <int WIDTH>
__device__ inline void read_scales(const Patch &patch, const Layout &layout, int row, int column, const uint32_t *words,
                                   ColumnScales<WIDTH> &columns) {
  columns.plain = true;
  if (row >= patch.rows || column >= patch.columns) return;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    if (k == 0 || !layout.wide) {
      columns.scale[k] = float_from_bits(words[word_at<WIDTH>(patch, row, column + k)]);
      columns.inverse[k] = 1.0f / columns.scale[k];
      columns.plain = columns.plain && !scale_is_empty(columns.scale[k]) && !isinf(columns.inverse[k]);
    } else {
      columns.scale[k] = columns.scale[0];
      columns.inverse[k] = columns.inverse[0];
    }
  }
}

/* Nearest codes of a hardware format. */
template <int WIDTH, Encoding ENCODING>
__device__ inline void encode_nearest(const ColumnScales<WIDTH> &columns, float (&value)[WIDTH],
                                      Packed<uint8_t, WIDTH> &codes) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    const BlockScaling scaling = block_scaling(columns.scale[k], columns.inverse[k], false);
    value[k] = columns.plain ? value[k] * columns.inverse[k] : scaled_element(value[k], &scaling);
  }
  NoStage stage;
  const Encoder<ENCODING> encoder(stage, nullptr);
#pragma unroll
  for (int k = 0; k < WIDTH; k += 4) {
    uint32_t word[4];
    encoder.encode(value + k, word);
#pragma unroll
    for (int j = 0; j < 4; j++) codes.element[k + j] = (uint8_t)(word[0] >> 8 * j);
  }
  if (columns.plain) return;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    if (columns.scale[k] != columns.scale[k]) codes.element[k] = 0x7F; /* NaN in both formats */
  }
}

/* Any codes of elements that start at element i. */
template <int WIDTH>
__device__ inline void encode_any(const QuantizePlan &plan, const MapTable &table, const ColumnScales<WIDTH> &columns,
                                  const float (&value)[WIDTH], int64_t i, Packed<uint8_t, WIDTH> &codes) {
  uint32_t word[WIDTH] = {};
  if (plan.stochastic) random_words(plan.random, i, word);
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    const BlockScaling scaling = scaling_of<ENCODING_ANY>(plan, columns.scale[k]);
    codes.element[k] = code_of<ENCODING_ANY>(plan, table, scaling, value[k], plan.stochastic, word[k]);
  }
}

template <typename Scalar, int WIDTH, Encoding ENCODING>
__device__ inline void quantize_vector(const QuantizePlan &plan, const MapTable &table,
                                       const ColumnScales<WIDTH> &columns, const Vector<Scalar, WIDTH> &x, int64_t i) {
  float value[WIDTH];
  Packed<uint8_t, WIDTH> codes;
  x.unpack_to(value);
  if constexpr (ENCODING == ENCODING_ANY) {
    encode_any<WIDTH>(plan, table, columns, value, i, codes);
  } else {
    encode_nearest<WIDTH, ENCODING>(columns, value, codes);
  }
  if (plan.codes) *reinterpret_cast<Packed<uint8_t, WIDTH> *>(plan.codes + i) = codes;
  if (!plan.values) return;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    value[k] = decode<ENCODING>(plan, table.value, codes.element[k]) * columns.scale[k];
  }
  store_values(plan, i, value);
}

/* The words of the patch's tiles become their scales. */
template <int WIDTH, Encoding ENCODING>
__device__ inline void find_scales(const TilesPlan &tiles, const Patch &patch, uint32_t *words) {
  const QuantizePlan &plan = tiles.quantize;
  for (int i = threadIdx.x; i < patch.tiles_down * patch.tiles_across; i += BLOCK) {
    const int down = i / patch.tiles_across, across = i - down * patch.tiles_across;
    const int64_t tile_row = patch.tile_row + down, tile_column = patch.tile_column + across;
    const int64_t tile = tile_row * tiles.tiles_across + tile_column;
    uint32_t *word = words + word_of<WIDTH>(patch, down, across);
    const float scale = plan.known_scale  ? plan.known_scale[tile]
                        : plan.magnitudes ? scale_of<ENCODING>(plan, plan.magnitudes[tile])
                                          : scale_of<ENCODING>(plan, *word);
    *word = float_to_bits(scale);
    const bool first = tile_row * tiles.tile_rows >= patch.row && tile_column * tiles.tile_columns >= patch.column;
    if (plan.scale && first) plan.scale[tile] = scale;
  }
}

/* ENCODING_ANY: maps, and stochastic rounding. */
template <typename Scalar, int WIDTH, Encoding ENCODING>
__global__ void __launch_bounds__(BLOCK, 2) quantize_tiles_kernel(const __grid_constant__ TilesPlan tiles) {
  __shared__ uint32_t words[TILES_MOST];
  __shared__ __align__(16) uint4 table_space[ENCODING == ENCODING_ANY ? sizeof(MapTable) / sizeof(uint4) : 1];
  const MapTable &table = *reinterpret_cast<const MapTable *>(table_space);
  const QuantizePlan &plan = tiles.quantize;
  if (ENCODING == ENCODING_ANY && plan.map) stage_table(table_space, plan.map, sizeof(MapTable));
  const Layout layout = layout_of<WIDTH>(tiles);
  const int column = threadIdx.x % lanes<WIDTH> * WIDTH, first_row = threadIdx.x / lanes<WIDTH> * rows_each<WIDTH>;
  int64_t across;
  const int64_t patches = patch_count(tiles, across);
  for (int64_t i = blockIdx.x; i < patches; i += gridDim.x) {
    const Patch patch = patch_at(tiles, i, across);
    Vector<Scalar, WIDTH> x[rows_each<WIDTH>];
    load_patch<Scalar, WIDTH>(tiles, patch, first_row, column, x);
    if (!plan.known_scale && !plan.magnitudes) {
      measure_patch<Scalar, WIDTH>(patch, layout, first_row, column, x, words);
    }
    find_scales<WIDTH, ENCODING>(tiles, patch, words);
    __syncthreads();
    ColumnScales<WIDTH> columns;
    int64_t at = first_element<WIDTH>(tiles, patch, first_row, column);
#pragma unroll
    for (int j = 0; j < rows_each<WIDTH>; j++, at += tiles.columns) {
      const int row = first_row + j;
      if (j == 0 || !layout.together) read_scales<WIDTH>(patch, layout, row, column, words, columns);
      if (row >= patch.rows || column >= patch.columns) continue;
      quantize_vector<Scalar, WIDTH, ENCODING>(plan, table, columns, x[j], at);
    }
    __syncthreads(); /* before the words are written again */
  }
}

template <typename Scalar, int WIDTH>
__global__ void __launch_bounds__(BLOCK, 2)
    tile_magnitudes_kernel(const __grid_constant__ TilesPlan tiles, uint32_t *magnitudes) {
  __shared__ uint32_t words[TILES_MOST];
  const Layout layout = layout_of<WIDTH>(tiles);
  const int column = threadIdx.x % lanes<WIDTH> * WIDTH, first_row = threadIdx.x / lanes<WIDTH> * rows_each<WIDTH>;
  int64_t across;
  const int64_t patches = patch_count(tiles, across);
  for (int64_t i = blockIdx.x; i < patches; i += gridDim.x) {
    const Patch patch = patch_at(tiles, i, across);
    Vector<Scalar, WIDTH> x[rows_each<WIDTH>];
    load_patch<Scalar, WIDTH>(tiles, patch, first_row, column, x);
    measure_patch<Scalar, WIDTH>(patch, layout, first_row, column, x, words);
    for (int t = threadIdx.x; t < patch.tiles_down * patch.tiles_across; t += BLOCK) {
      const int down = t / patch.tiles_across, over = t - down * patch.tiles_across;
      const int64_t tile = (patch.tile_row + down) * tiles.tiles_across + patch.tile_column + over;
      const uint32_t largest = words[word_of<WIDTH>(patch, down, over)];
      if (largest > 0) atomicMax(magnitudes + tile, largest);
    }
    __syncthreads(); /* before the words are written again */
  }
}

/* --- launching --- */

int64_t patches_of(const TilesPlan &plan) {
  return divide_up(plan.rows, plan.patch_rows) * divide_up(plan.columns, plan.patch_columns);
}

template <typename Scalar, int WIDTH, Encoding ENCODING> cudaError_t run(Launch launch, const TilesPlan &plan) {
  const auto kernel = quantize_tiles_kernel<Scalar, WIDTH, ENCODING>;
  const int grid = resident_grid((const void *)kernel, launch, BLOCK, patches_of(plan));
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_format(Launch launch, const TilesPlan &plan) {
  constexpr int width = vector_width<Scalar>;
  if (plan.quantize.map || plan.quantize.stochastic) return run<Scalar, width, ENCODING_ANY>(launch, plan);
  return with_float8(plan.quantize.format,
                     [&](auto format) { return run<Scalar, width, encoding_of_code<decltype(format)>>(launch, plan); });
}

template <typename Scalar, int WIDTH>
cudaError_t run_magnitudes(Launch launch, const TilesPlan &plan, uint32_t *magnitudes) {
  const auto kernel = tile_magnitudes_kernel<Scalar, WIDTH>;
  const int grid = resident_grid((const void *)kernel, launch, BLOCK, patches_of(plan));
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan, magnitudes);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_quantize_tiles(Launch launch, const TilesPlan *plan) {
  if (plan->quantize.count == 0) return cudaSuccess;
  if (plan->width == 1) return run<float, 1, ENCODING_ANY>(launch, *plan);
  return with_scalar(plan->quantize.dtype, [&](auto scalar) { return run_format<decltype(scalar)>(launch, *plan); });
}

extern "C" cudaError_t launch_tile_magnitudes(Launch launch, const TilesPlan *plan, uint32_t *magnitudes) {
  if (plan->quantize.count == 0) return cudaSuccess;
  if (plan->width == 1) return run_magnitudes<float, 1>(launch, *plan, magnitudes);
  return with_scalar(plan->quantize.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return run_magnitudes<Scalar, vector_width<Scalar>>(launch, *plan, magnitudes);
  });
}
