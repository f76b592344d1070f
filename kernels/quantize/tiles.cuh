/* Patches of a matrix in the registers of a thread block, and the largest magnitudes of the tiles in one. */
#ifndef FP8_TILES_CUH
#define FP8_TILES_CUH

#include "quantize/quantize.cuh"
#include "quantize/quantize.h"
#include "vectors.cuh"

namespace {

enum { BLOCK = 512, ELEMENTS = TILES_SIDE * TILES_SIDE / BLOCK };

/* Rows of a thread. */
template <int WIDTH> constexpr int rows_each = ELEMENTS / WIDTH;
/* Threads side by side. */
template <int WIDTH> constexpr int lanes = TILES_SIDE / WIDTH;

/* WIDTH elements in 16 bytes, or one of the plan's dtype. */
template <typename Scalar, int WIDTH> struct Vector {
  uint4 raw;
  __device__ void clear() { raw = make_uint4(0, 0, 0, 0); }
  __device__ void load(const QuantizePlan &plan, int64_t i) {
    raw = *reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + i);
  }
  __device__ uint32_t magnitude() const { return magnitude_bits(raise<Scalar>(0, raw), Scalar()); }
  __device__ void unpack_to(float (&value)[WIDTH]) const { unpack<Scalar>(raw, value); }
};

template <typename Scalar> struct Vector<Scalar, 1> {
  float element;
  __device__ void clear() { element = 0; }
  __device__ void load(const QuantizePlan &plan, int64_t i) { element = load_float(plan.x, plan.dtype, i); }
  __device__ uint32_t magnitude() const { return float_to_bits(element) & 0x7FFFFFFFu; }
  __device__ void unpack_to(float (&value)[1]) const { value[0] = element; }
};

/* Where the tiles of a patch begin along one dimension, in numbers so small that divisions are a multiplication. */
struct Grid {
  int offset, side, factor; /* (offset + i) / side tiles begin between the first element and element i */
};

enum { LONG_SIDE = 2 * TILES_SIDE, FACTOR_BITS = 20 };

/* Of a patch that begins `offset` elements after a tile does. A side that can't end twice in a patch may as well be
 * LONG_SIDE, the distance to its end being kept. */
__device__ inline Grid grid_of(int64_t offset, int64_t side) {
  Grid grid;
  grid.side = (int)min(side, (int64_t)LONG_SIDE);
  grid.offset = side <= LONG_SIDE ? (int)offset : LONG_SIDE - (int)min(side - offset, (int64_t)LONG_SIDE);
  grid.factor = divide_up(1 << FACTOR_BITS, grid.side);
  return grid;
}

/* Exact, since offset + i < 2 · LONG_SIDE. */
__device__ inline int tile_of(const Grid &grid, int i) { return (grid.offset + i) * grid.factor >> FACTOR_BITS; }

struct Patch {
  int64_t row, column;           /* the first */
  int64_t tile_row, tile_column; /* of the first element */
  int rows, columns;             /* those that exist */
  int tiles_down, tiles_across, stride;
  Grid down, across;
};

__device__ inline int64_t patch_count(const TilesPlan &tiles, int64_t &across) {
  across = divide(tiles.columns + tiles.patch_columns - 1, tiles.patch_columns);
  return divide(tiles.rows + tiles.patch_rows - 1, tiles.patch_rows) * across;
}

__device__ inline Patch patch_at(const TilesPlan &tiles, int64_t i, int64_t across) {
  Patch patch;
  const int64_t down = divide(i, across);
  patch.row = down * tiles.patch_rows;
  patch.column = (i - down * across) * tiles.patch_columns;
  patch.rows = (int)min(tiles.rows - patch.row, (int64_t)tiles.patch_rows);
  patch.columns = (int)min(tiles.columns - patch.column, (int64_t)tiles.patch_columns);
  patch.tile_row = divide(patch.row, tiles.tile_rows);
  patch.tile_column = divide(patch.column, tiles.tile_columns);
  patch.down = grid_of(patch.row - patch.tile_row * tiles.tile_rows, tiles.tile_rows);
  patch.across = grid_of(patch.column - patch.tile_column * tiles.tile_columns, tiles.tile_columns);
  patch.tiles_down = tile_of(patch.down, patch.rows - 1) + 1;
  patch.tiles_across = tile_of(patch.across, patch.columns - 1) + 1;
  patch.stride = patch.across.side == 1 ? TILES_SIDE : patch.tiles_across;
  return patch;
}

/* The word of a tile of the patch. Where every column has its own, those that the lanes of a warp touch together lie side
 * by side, in different banks. */
template <int WIDTH> __device__ inline int word_of(const Patch &patch, int down, int across) {
  if (WIDTH > 1 && patch.across.side == 1) across = across % WIDTH * lanes<WIDTH> + across / WIDTH;
  return down * patch.stride + across;
}

template <int WIDTH> __device__ inline int word_at(const Patch &patch, int row, int column) {
  return word_of<WIDTH>(patch, tile_of(patch.down, row), tile_of(patch.across, column));
}

/* How the vectors of a plan meet its tiles. */
struct Layout {
  bool wide;     /* a vector lies in one tile */
  bool together; /* the rows of a thread do */
  int segment;   /* so many lanes hold vectors of one row in one tile: a power of two */
};

template <int WIDTH> __device__ inline Layout layout_of(const TilesPlan &tiles) {
  Layout layout;
  layout.wide = tiles.tile_columns % WIDTH == 0;
  layout.together = tiles.tile_rows % rows_each<WIDTH> == 0 && tiles.patch_rows % rows_each<WIDTH> == 0;
  layout.segment = 1;
  const int most = lanes<WIDTH> < WARP ? lanes<WIDTH> : WARP;
  while (layout.wide && layout.segment < most && tiles.tile_columns % (2 * layout.segment * WIDTH) == 0) {
    layout.segment *= 2;
  }
  return layout;
}

/* A thread's first element may lie outside of the matrix. */
template <int WIDTH>
__device__ inline int64_t first_element(const TilesPlan &tiles, const Patch &patch, int first_row, int column) {
  return (patch.row + first_row) * tiles.columns + patch.column + column;
}

template <typename Scalar, int WIDTH>
__device__ inline void load_patch(const TilesPlan &tiles, const Patch &patch, int first_row, int column,
                                  Vector<Scalar, WIDTH> (&x)[rows_each<WIDTH>]) {
  int64_t at = first_element<WIDTH>(tiles, patch, first_row, column);
#pragma unroll
  for (int j = 0; j < rows_each<WIDTH>; j++, at += tiles.columns) {
    x[j].clear();
    if (first_row + j < patch.rows && column < patch.columns) x[j].load(tiles.quantize, at);
  }
}

/* Raises the word of a row's tile, or that of the run of rows, to a thread's magnitude. */
template <int WIDTH>
__device__ inline void raise_wide(const Patch &patch, const Layout &layout, int row, int column, uint32_t magnitude,
                                  uint32_t *words) {
  for (int mask = layout.segment / 2; mask > 0; mask /= 2) magnitude = max(magnitude, shuffle_xor(magnitude, mask));
  const bool leader = threadIdx.x % layout.segment == 0 && row < patch.rows && column < patch.columns;
  if (leader && magnitude > 0) atomicMax(words + word_at<WIDTH>(patch, row, column), magnitude);
}

template <int WIDTH>
__device__ inline void raise_narrow(const Patch &patch, int row, int column, const uint32_t (&magnitude)[WIDTH],
                                    uint32_t *words) {
  if (row >= patch.rows || column >= patch.columns) return;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    if (magnitude[k] > 0) atomicMax(words + word_at<WIDTH>(patch, row, column + k), magnitude[k]);
  }
}

/* The words of the patch's tiles become their largest magnitudes. All threads of the block take part. */
template <typename Scalar, int WIDTH>
__device__ inline void measure_patch(const Patch &patch, const Layout &layout, int first_row, int column,
                                     const Vector<Scalar, WIDTH> (&x)[rows_each<WIDTH>], uint32_t *words) {
  for (int i = threadIdx.x; i < patch.tiles_down * patch.stride; i += BLOCK) words[i] = 0;
  __syncthreads();
  if (layout.wide) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < rows_each<WIDTH>; j++) {
      largest = max(largest, x[j].magnitude());
      if (layout.together) continue;
      raise_wide<WIDTH>(patch, layout, first_row + j, column, largest, words);
      largest = 0;
    }
    if (layout.together) raise_wide<WIDTH>(patch, layout, first_row, column, largest, words);
  } else {
    uint32_t largest[WIDTH] = {};
#pragma unroll
    for (int j = 0; j < rows_each<WIDTH>; j++) {
      float value[WIDTH];
      x[j].unpack_to(value);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) largest[k] = max(largest[k], float_to_bits(value[k]) & 0x7FFFFFFFu);
      if (layout.together) continue;
      raise_narrow<WIDTH>(patch, first_row + j, column, largest, words);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) largest[k] = 0;
    }
    if (layout.together) raise_narrow<WIDTH>(patch, first_row, column, largest, words);
  }
  __syncthreads();
}

} // namespace

#endif
