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

/* What is above scales in E4M3: of a row of tiles, or `whole`. */
__device__ inline UpperScale upper_of_tiles(const TilesPlan &tiles, const UpperScale &whole, int64_t tile_row) {
  return tiles.quantize.upper_each > 0 ? upper_of(tiles.quantize, tile_row * tiles.tiles_across) : whole;
}

__device__ inline bool has_upper(const QuantizePlan &plan) {
  return plan.rule.rounding == SCALE_E4M3 && !plan.known_scale;
}

/* The scales of a thread's columns; the inverse is 0 where elements count as 0. */
template <int WIDTH> struct ColumnScales {
  float scale[WIDTH], inverse[WIDTH];
  bool plain; /* none of them NaN, and all inverses finite */
};

template <int WIDTH>
__device__ inline void read_scales(const TilesPlan &tiles, const UpperScale &whole, const Patch &patch,
                                   const Layout &layout, int row, int column, const uint32_t *words,
                                   ColumnScales<WIDTH> &columns) {
  columns.plain = true;
  if (row >= patch.rows || column >= patch.columns) return;
  const bool below = has_upper(tiles.quantize);
  UpperScale upper = whole;
  if (below) upper = upper_of_tiles(tiles, whole, patch.tile_row + tile_of(patch.down, row));
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    if (k == 0 || !layout.wide) {
      const float stored = float_from_bits(words[word_at<WIDTH>(patch, row, column + k)]);
      const BlockScaling scaling = below ? scaling_below(stored, &upper) : block_scaling(stored, 1.0f / stored, false);
      columns.scale[k] = scaling.scale;
      columns.inverse[k] = scaling.empty ? 0.0f : scaling.inverse;
      columns.plain = columns.plain && !scaling.empty && !scaling.divide;
    } else {
      columns.scale[k] = columns.scale[0];
      columns.inverse[k] = columns.inverse[0];
    }
  }
}

/* Of one of them. */
template <int WIDTH> __device__ inline BlockScaling scaling_of_column(const ColumnScales<WIDTH> &columns, int k) {
  BlockScaling scaling = block_scaling(columns.scale[k], columns.inverse[k], false);
  scaling.empty = columns.inverse[k] == 0.0f;
  return scaling;
}

template <Encoding ENCODING> constexpr bool is_of_map = ENCODING == ENCODING_MAP || ENCODING == ENCODING_GRID;

/* Nearest codes by an encoder. */
template <int WIDTH, Encoding ENCODING>
__device__ inline void encode_nearest(const Encoder<ENCODING> &encoder, float limit, const ColumnScales<WIDTH> &columns,
                                      float (&value)[WIDTH], Packed<uint8_t, WIDTH> &codes) {
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    const BlockScaling scaling = scaling_of_column<WIDTH>(columns, k);
    value[k] = columns.plain ? value[k] * columns.inverse[k] : scaled_element(value[k], &scaling);
    if (is_of_map<ENCODING>) value[k] = fminf(fmaxf(value[k], -limit), limit);
  }
#pragma unroll
  for (int k = 0; k < WIDTH; k += 4) {
    uint32_t word[4];
    encoder.encode(value + k, word);
    const uint32_t four = encoder.codes(word);
#pragma unroll
    for (int j = 0; j < 4; j++) codes.element[k + j] = (uint8_t)(four >> 8 * j);
  }
  if constexpr (!is_of_map<ENCODING>) {
    if (columns.plain) return;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      if (columns.scale[k] != columns.scale[k]) codes.element[k] = 0x7F; /* NaN in both formats */
    }
  }
}

/* Any codes of elements that start at element i. */
template <int WIDTH>
__device__ inline void encode_any(const QuantizePlan &plan, const MapTable &table, const ColumnScales<WIDTH> &columns,
                                  const float (&value)[WIDTH], int64_t i, Packed<uint8_t, WIDTH> &codes) {
  uint32_t bits[WIDTH] = {};
  if (plan.stochastic) rounding_bits(plan.random, i, bits);
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    BlockScaling scaling = scaling_of_column<WIDTH>(columns, k);
    if (plan.map) scaling.limit = plan.rule.limit;
    codes.element[k] = code_of<ENCODING_ANY>(plan, table, scaling, value[k], plan.stochastic, bits[k]);
  }
}

/* How a kernel makes codes, with its part of shared memory: by an Encoder, or from a map's whole table. */
template <Encoding ENCODING> struct TilesEncoder {
  using Stage = typename StageOf<ENCODING>::Type;
  Encoder<ENCODING> encoder;
  float limit;
  const float *value;
  __device__ TilesEncoder(Stage &stage, const QuantizePlan &plan)
      : encoder(make_encoder<ENCODING>(stage, plan)), limit(isinf(plan.rule.limit) ? LOOKUP_LIMIT : plan.rule.limit) {
    value = entries_of(stage);
  }
  __device__ static const float *entries_of(const LookupStage &stage) { return stage.value; }
  __device__ static const float *entries_of(const NoStage &) { return nullptr; }
  __device__ const float *values() const { return value; }
};

struct TableStage {
  alignas(16) MapTable table;
};

template <> struct TilesEncoder<ENCODING_ANY> {
  using Stage = TableStage;
  const MapTable &table;
  __device__ TilesEncoder(Stage &stage, const QuantizePlan &plan) : table(stage.table) {
    if (plan.map) stage_table(&stage.table, plan.map, sizeof(MapTable));
  }
  __device__ const float *values() const { return table.value; }
};

template <typename Scalar, int WIDTH, Encoding ENCODING>
__device__ inline void quantize_vector(const QuantizePlan &plan, const TilesEncoder<ENCODING> &encoder,
                                       const ColumnScales<WIDTH> &columns, const Vector<Scalar, WIDTH> &x, int64_t i) {
  float value[WIDTH];
  Packed<uint8_t, WIDTH> codes;
  x.unpack_to(value);
  if constexpr (ENCODING == ENCODING_ANY) {
    encode_any<WIDTH>(plan, encoder.table, columns, value, i, codes);
  } else {
    encode_nearest<WIDTH, ENCODING>(encoder.encoder, encoder.limit, columns, value, codes);
  }
  if (plan.codes) *reinterpret_cast<Packed<uint8_t, WIDTH> *>(plan.codes + i) = codes;
  if (!plan.values) return;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    value[k] = decode<ENCODING>(plan, encoder.values(), codes.element[k]) * columns.scale[k];
  }
  store_values(plan, i, value);
}

/* The words of the patch's tiles become their scales. */
template <int WIDTH>
__device__ inline void find_scales(const TilesPlan &tiles, const UpperScale &whole, const Patch &patch,
                                   uint32_t *words) {
  const QuantizePlan &plan = tiles.quantize;
  const bool below = has_upper(plan);
  for (int i = threadIdx.x; i < patch.tiles_down * patch.tiles_across; i += BLOCK) {
    const int down = i / patch.tiles_across, across = i - down * patch.tiles_across;
    const int64_t tile_row = patch.tile_row + down, tile_column = patch.tile_column + across;
    const int64_t tile = tile_row * tiles.tiles_across + tile_column;
    uint32_t *word = words + word_of<WIDTH>(patch, down, across);
    const uint32_t magnitude = plan.magnitudes ? plan.magnitudes[tile] : *word;
    UpperScale upper = whole;
    if (below) upper = upper_of_tiles(tiles, whole, tile_row);
    const float stored = plan.known_scale ? plan.known_scale[tile]
                         : below          ? scale_below(magnitude, &upper)
                                          : scale_of(plan, magnitude);
    *word = float_to_bits(stored);
    const bool first = tile_row * tiles.tile_rows >= patch.row && tile_column * tiles.tile_columns >= patch.column;
    if (plan.scale && first) plan.scale[tile] = below ? scaling_below(stored, &upper).scale : stored;
  }
}

/* ENCODING_ANY: maps without a look-up, and stochastic rounding. */
template <typename Scalar, int WIDTH, Encoding ENCODING>
__global__ void __launch_bounds__(BLOCK, 2) quantize_tiles_kernel(const __grid_constant__ TilesPlan tiles) {
  __shared__ uint32_t words[TILES_MOST];
  __shared__ typename TilesEncoder<ENCODING>::Stage stage;
  const QuantizePlan &plan = tiles.quantize;
  const TilesEncoder<ENCODING> encoder(stage, plan);
  UpperScale whole = no_upper_scale(&plan.rule);
  if (has_upper(plan) && plan.upper_each == 0) whole = upper_of(plan, 0);
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
    find_scales<WIDTH>(tiles, whole, patch, words);
    __syncthreads();
    ColumnScales<WIDTH> columns;
    int64_t at = first_element<WIDTH>(tiles, patch, first_row, column);
#pragma unroll
    for (int j = 0; j < rows_each<WIDTH>; j++, at += tiles.columns) {
      const int row = first_row + j;
      if (j == 0 || !layout.together) {
        read_scales<WIDTH>(tiles, whole, patch, layout, row, column, words, columns);
      }
      if (row >= patch.rows || column >= patch.columns) continue;
      quantize_vector<Scalar, WIDTH, ENCODING>(plan, encoder, columns, x[j], at);
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
  if (plan.quantize.grid.bits > 0 && !plan.quantize.stochastic) return run<Scalar, width, ENCODING_GRID>(launch, plan);
  if (plan.looks_up) return run<Scalar, width, ENCODING_MAP>(launch, plan);
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
