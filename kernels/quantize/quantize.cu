/* Quantization: a tensor's elements, in blocks, become codes and one scale a block; or, for fake quantization, the
 * numbers that those codes decode to. The exact rules stand at Quantizer in backend.h.
 *
 * Work is cut into tiles of at most 4096 elements, none crossing a block's end. A group of 1 to 512 threads takes a
 * tile at a time, eight elements a thread, which stay in registers from the one read to the one write. A block of at
 * most 4096 elements is one tile, and its group finds absmax by shuffles. Longer blocks take two kernels:
 * block_magnitudes leaves each block's largest magnitude in memory, then the tiles are encoded.
 *
 * Magnitudes are compared as bits: of two floats without sign the larger has the larger bits, infinity's exceed all
 * finite ones and NaN's exceed infinity's, so that an integer maximum is exact and finds broken blocks too. */
#include "quantize.cuh"

namespace {

enum { BLOCK = 512, ELEMENTS = QUANTIZE_TILE / BLOCK };

/* How the blocks are cut: tile t is tile t % tiles_a_block of block t / tiles_a_block. */
struct Tiling {
  int64_t tiles, tiles_a_block;
  int group; /* threads a tile: a power of two */
};

struct Tile {
  int64_t block, begin;
  int length; /* 0 beyond the last element */
  bool first; /* of its block */
};

__device__ inline Tile tile_at(const QuantizePlan &plan, const Tiling &tiling, int64_t i) {
  Tile tile = {0, 0, 0, false};
  if (i >= tiling.tiles) return tile;
  tile.block = tiling.tiles_a_block == 1 ? i : divide(i, tiling.tiles_a_block);
  const int64_t position = (i - tile.block * tiling.tiles_a_block) * QUANTIZE_TILE; /* in the block */
  tile.begin = tile.block * plan.blocksize + position;
  int64_t length = min(plan.blocksize - position, (int64_t)QUANTIZE_TILE);
  length = min(length, plan.count - tile.begin);
  tile.length = (int)max(length, (int64_t)0); /* the last block may be short by whole tiles */
  tile.first = position == 0;
  return tile;
}

/* One element: of dtype Scalar, or with WIDTH 1 of the dtype in the plan. */
template <typename Scalar, int WIDTH> __device__ inline float load_element(const QuantizePlan &plan, int64_t i) {
  if (WIDTH == 1) return load_float(plan.x, plan.dtype, i);
  return to_float(static_cast<const Scalar *>(plan.x)[i]);
}

/* The thread's eight elements as vectors of WIDTH, neighbouring threads holding neighbouring vectors: vector v starts
 * at WIDTH · (lane + v · group). Elements beyond the tile are 0. WIDTH is 1 where vectors would not be aligned. */
template <typename Scalar, int WIDTH>
__device__ inline void load_tile(const QuantizePlan &plan, const Tile &tile, int lane, int group,
                                 float (&value)[ELEMENTS]) {
#pragma unroll
  for (int v = 0; v < ELEMENTS / WIDTH; v++) {
    const int position = WIDTH * (lane + v * group);
    float vector[WIDTH] = {};
    if (WIDTH > 1 && position + WIDTH <= tile.length) {
      load_as<Scalar>(plan.x, tile.begin + position, vector);
    } else {
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        if (position + k < tile.length) vector[k] = load_element<Scalar, WIDTH>(plan, tile.begin + position + k);
      }
    }
#pragma unroll
    for (int k = 0; k < WIDTH; k++) value[v * WIDTH + k] = vector[k];
  }
}

__device__ inline uint32_t largest_magnitude(const float (&value)[ELEMENTS]) {
  uint32_t largest = 0;
#pragma unroll
  for (int k = 0; k < ELEMENTS; k++) largest = max(largest, float_to_bits(value[k]) & 0x7FFFFFFFu);
  return largest;
}

/* Writes codes and decoded values of one vector of a tile: all of it, or what lies before `end`. */
template <int WIDTH, Encoding ENCODING>
__device__ inline void store_codes(const QuantizePlan &plan, const MapTable &table, const Scaling &scaling, int64_t i,
                                   int64_t end, const Packed<uint8_t, WIDTH> &codes) {
  if (plan.codes && i + WIDTH <= end) {
    *reinterpret_cast<Packed<uint8_t, WIDTH> *>(plan.codes + i) = codes;
  } else if (plan.codes) {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      if (i + k < end) plan.codes[i + k] = codes.element[k];
    }
  }
  if (!plan.values) return;
  float value[WIDTH];
#pragma unroll
  for (int k = 0; k < WIDTH; k++) value[k] = decode<ENCODING>(plan, table.value, codes.element[k]) * scaling.scale;
  if (i + WIDTH <= end) {
    store_values(plan, i, value);
  } else {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const float single[1] = {value[k]};
      if (i + k < end) store_values(plan, i + k, single);
    }
  }
}

template <typename Scalar, int WIDTH, Encoding ENCODING, bool STOCHASTIC>
__global__ void __launch_bounds__(BLOCK)
    quantize_kernel(const __grid_constant__ QuantizePlan plan, const Tiling tiling) {
  __shared__ __align__(16) MapTable table;
  __shared__ uint32_t warp_magnitude[2][BLOCK / WARP];
  if (uses<ENCODING>(plan, ENCODING_MAP)) stage_table(&table, plan.map, sizeof table);
  const bool stochastic = ENCODING == ENCODING_ANY ? plan.stochastic : STOCHASTIC;
  const int group = tiling.group, groups = BLOCK / group;
  const int lane = threadIdx.x % group;
  int turn = 0;
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t first = (int64_t)blockIdx.x * groups; first < tiling.tiles;
       first += (int64_t)gridDim.x * groups, turn ^= 1) {
    const Tile tile = tile_at(plan, tiling, first + threadIdx.x / group);
    float value[ELEMENTS];
    load_tile<Scalar, WIDTH>(plan, tile, lane, group, value);
    float scale = 0;
    if (plan.known_scale) {
      if (tile.length > 0) scale = plan.known_scale[tile.block];
    } else {
      uint32_t magnitude = 0;
      if (!plan.magnitudes) {
        magnitude = group_maximum(largest_magnitude(value), group, warp_magnitude[turn]);
      } else if (tile.length > 0) {
        magnitude = plan.magnitudes[tile.block];
      }
      scale = scale_of<ENCODING>(plan, magnitude);
    }
    const Scaling scaling = scaling_of<ENCODING>(plan, scale);
    if (plan.scale && lane == 0 && tile.first) plan.scale[tile.block] = scaling.scale;
#pragma unroll
    for (int v = 0; v < ELEMENTS / WIDTH; v++) {
      const int position = WIDTH * (lane + v * group);
      if (position >= tile.length) break;
      uint32_t word[WIDTH] = {};
      if (stochastic) random_words(plan.random, tile.begin + position, word);
      Packed<uint8_t, WIDTH> codes;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        codes.element[k] = code_of<ENCODING>(plan, table, scaling, value[v * WIDTH + k], stochastic, word[k]);
      }
      store_codes<WIDTH, ENCODING>(plan, table, scaling, tile.begin + position, tile.begin + tile.length, codes);
    }
  }
}

/* Each thread block takes a run of neighbouring tiles and adds its maximum to a block's word where the run leaves that
 * block. */
template <typename Scalar, int WIDTH>
__global__ void __launch_bounds__(BLOCK)
    block_magnitudes_kernel(const __grid_constant__ QuantizePlan plan, const Tiling tiling, uint32_t *magnitudes) {
  const int64_t run = (tiling.tiles + gridDim.x - 1) / gridDim.x;
  const int64_t begin = blockIdx.x * run, end = begin + run < tiling.tiles ? begin + run : tiling.tiles;
  uint32_t largest = 0;
  for (int64_t i = begin; i < end; i++) {
    const Tile tile = tile_at(plan, tiling, i);
    float value[ELEMENTS];
    load_tile<Scalar, WIDTH>(plan, tile, threadIdx.x, BLOCK, value);
    largest = max(largest, largest_magnitude(value));
    if (i + 1 < end && (i + 1) % tiling.tiles_a_block != 0) continue;
    largest = combine_across<BLOCK>(largest, [](uint32_t a, uint32_t b) { return max(a, b); });
    if (threadIdx.x == 0) atomicMax(magnitudes + tile.block, largest);
    largest = 0;
  }
}

Tiling tiling_of(const QuantizePlan &plan) {
  Tiling tiling = {0, 1, BLOCK};
  const int64_t blocks = (plan.count - 1) / plan.blocksize + 1;
  if (plan.blocksize > QUANTIZE_TILE) {
    /* A block may claim to be longer than the tensor. */
    const int64_t longest = plan.blocksize < plan.count ? plan.blocksize : plan.count;
    tiling.tiles_a_block = (longest + QUANTIZE_TILE - 1) / QUANTIZE_TILE;
  } else {
    while (tiling.group > 1 && tiling.group / 2 * ELEMENTS >= plan.blocksize) tiling.group /= 2;
  }
  tiling.tiles = blocks * tiling.tiles_a_block;
  return tiling;
}

/* Vectors of 16 bytes of x (a multiple of 4 elements) may start where tiles do. */
bool is_vectorizable(const QuantizePlan &plan) {
  const int64_t width = plan.dtype == DTYPE_F32 ? 4 : 8;
  if ((uintptr_t)plan.x % 16 != 0 || (uintptr_t)plan.values % 16 != 0 || (uintptr_t)plan.codes % width != 0)
    return false;
  return plan.blocksize % width == 0 || plan.blocksize >= plan.count;
}

template <typename Scalar, int WIDTH, Encoding ENCODING, bool STOCHASTIC>
cudaError_t run(Launch launch, const QuantizePlan &plan) {
  const Tiling tiling = tiling_of(plan);
  /* Few enough blocks that each stages the map once for many tiles. */
  const int grid = grid_size(launch, tiling.tiles, BLOCK / tiling.group, 4);
  quantize_kernel<Scalar, WIDTH, ENCODING, STOCHASTIC><<<grid, BLOCK, 0, launch.stream>>>(plan, tiling);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_vectors(Launch launch, const QuantizePlan &plan) {
  constexpr int width = 16 / sizeof(Scalar);
  switch (encoding_of(plan)) {
  case ENCODING_MAP:
    return plan.stochastic ? run<Scalar, width, ENCODING_MAP, true>(launch, plan)
                           : run<Scalar, width, ENCODING_MAP, false>(launch, plan);
  case ENCODING_E4M3:
    return plan.stochastic ? run<Scalar, width, ENCODING_E4M3, true>(launch, plan)
                           : run<Scalar, width, ENCODING_E4M3, false>(launch, plan);
  default:
    return plan.stochastic ? run<Scalar, width, ENCODING_E5M2, true>(launch, plan)
                           : run<Scalar, width, ENCODING_E5M2, false>(launch, plan);
  }
}

} // namespace

extern "C" cudaError_t launch_quantize(Launch launch, const QuantizePlan *plan) {
  if (plan->count == 0) return cudaSuccess;
  if (!is_vectorizable(*plan)) return run<float, 1, ENCODING_ANY, false>(launch, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) { return run_vectors<decltype(scalar)>(launch, *plan); });
}

extern "C" cudaError_t launch_block_magnitudes(Launch launch, const QuantizePlan *plan, uint32_t *magnitudes) {
  if (plan->count == 0) return cudaSuccess;
  const Tiling tiling = tiling_of(*plan);
  const int grid = grid_size(launch, tiling.tiles, 1, 8);
  const auto kernel = !is_vectorizable(*plan)    ? block_magnitudes_kernel<float, 1>
                      : plan->dtype == DTYPE_F32 ? block_magnitudes_kernel<float, 4>
                      : plan->dtype == DTYPE_F16 ? block_magnitudes_kernel<Half, 8>
                                                 : block_magnitudes_kernel<BFloat16, 8>;
  kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan, tiling, magnitudes);
  return cudaGetLastError();
}
