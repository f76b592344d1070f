/* Copies: conversion between dtypes (or filling, when the input is a number), copies of strided elements as they are,
 * and transposed copies through shared memory, which keep both reading and writing contiguous. */
#include "byte_tile.cuh"
#include "elementwise.cuh"

namespace {

struct Convert {
  static constexpr int inputs = 1;

  template <int WIDTH> __device__ void operator()(const float (&in)[1][WIDTH], float (&out)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) out[k] = in[0][k];
  }

  __device__ int64_t integer(const int64_t (&in)[1]) const { return in[0]; }
};

/* One thread a word. */
template <typename Word>
__global__ void __launch_bounds__(ELEMENTWISE_BLOCK) copy_words_kernel(const __grid_constant__ ElementwisePlan plan) {
  for (int64_t i = global_thread(); i < plan.count; i += global_threads()) {
    int64_t offset[2];
    element_offsets(plan, 1, i, offset);
    static_cast<Word *>(plan.operand[0].data)[offset[0]] = static_cast<const Word *>(plan.operand[1].data)[offset[1]];
  }
}

enum { TILE = 32, TILE_ROWS = 8 };

/* Thread blocks of 32 × 8 move tiles of 32 × 32 words. The column of padding keeps a column of the tile in different
 * banks. */
template <typename Word>
__global__ void __launch_bounds__(TILE *TILE_ROWS)
    transpose_words_kernel(const __grid_constant__ ElementwisePlan plan) {
  __shared__ Word tile[TILE][TILE + 1];
  const ElementOperand &out = plan.operand[0], &in = plan.operand[1];
  Word *out_data = static_cast<Word *>(out.data);
  const Word *in_data = static_cast<const Word *>(in.data);
  const int64_t rows = plan.size[1], columns = plan.size[2];
  const int64_t tiles_down = (rows + TILE - 1) / TILE, tiles_across = (columns + TILE - 1) / TILE;
  const int64_t tiles = plan.size[0] * tiles_down * tiles_across;
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const int64_t first_row = i % tiles_down * TILE;
    const int64_t first_column = i / tiles_down % tiles_across * TILE;
    const int64_t batch = i / tiles_down / tiles_across;
    for (int k = threadIdx.y; k < TILE; k += TILE_ROWS) {
      const int64_t row = first_row + threadIdx.x, column = first_column + k;
      if (row < rows && column < columns) {
        tile[k][threadIdx.x] = in_data[batch * in.stride[0] + row + column * in.stride[2]];
      }
    }
    __syncthreads();
    for (int k = threadIdx.y; k < TILE; k += TILE_ROWS) {
      const int64_t row = first_row + k, column = first_column + threadIdx.x;
      if (row < rows && column < columns) {
        out_data[batch * out.stride[0] + row * out.stride[1] + column] = tile[threadIdx.x][k];
      }
    }
    __syncthreads();
  }
}

/* Whether both matrices are made of runs of 16 bytes. */
bool has_runs(const ElementwisePlan *plan) {
  const ElementOperand &out = plan->operand[0], &in = plan->operand[1];
  const uint64_t positions = (uint64_t)(uintptr_t)out.data | (uint64_t)(uintptr_t)in.data |
                             (uint64_t)(plan->size[1] | plan->size[2]) |
                             (uint64_t)(out.stride[0] | out.stride[1] | in.stride[0] | in.stride[2]);
  return positions % byte_tile::RUN == 0;
}

__global__ void __launch_bounds__(byte_tile::BLOCK)
    transpose_bytes_kernel(const __grid_constant__ ElementwisePlan plan) {
  using namespace byte_tile;
  __shared__ __align__(16) uint4 chunks[SIDE * RUNS];
  const ElementOperand &out = plan.operand[0], &in = plan.operand[1];
  /* The input's rows lie along the output's columns. */
  const int64_t rows = plan.size[2], columns = plan.size[1];
  const int64_t tiles_down = (rows + SIDE - 1) / SIDE, tiles_across = (columns + SIDE - 1) / SIDE;
  const int64_t tiles = plan.size[0] * tiles_down * tiles_across;
  const int run = threadIdx.x % RUNS, first_row = threadIdx.x / RUNS;
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const int64_t tile_column = i % tiles_across * SIDE, tile_row = i / tiles_across % tiles_down * SIDE;
    const int64_t batch = i / tiles_across / tiles_down, column = tile_column + run * RUN;
    const uint8_t *from = static_cast<const uint8_t *>(in.data) + batch * in.stride[0] + column;
    uint4 raw[PASSES];
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      const int64_t row = tile_row + first_row + pass * ROWS_AT_ONCE;
      raw[pass] = make_uint4(0, 0, 0, 0);
      if (row < rows && column < columns) raw[pass] = *reinterpret_cast<const uint4 *>(from + row * in.stride[2]);
    }
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) chunks[chunk_at(first_row + pass * ROWS_AT_ONCE, run)] = raw[pass];
    __syncthreads();
    write_columns(chunks, tile_row, tile_column, rows, columns,
                  static_cast<uint8_t *>(out.data) + batch * out.stride[0], out.stride[1]);
    __syncthreads(); /* before the next tile is written */
  }
}

template <typename Word> cudaError_t copy_words(Launch launch, const ElementwisePlan *plan) {
  const int grid = grid_size(launch, plan->count, ELEMENTWISE_BLOCK, 64);
  copy_words_kernel<Word><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

template <typename Word> cudaError_t transpose_words(Launch launch, const ElementwisePlan *plan) {
  const int64_t tiles_down = (plan->size[1] + TILE - 1) / TILE, tiles_across = (plan->size[2] + TILE - 1) / TILE;
  const int grid = grid_size(launch, plan->size[0] * tiles_down * tiles_across, 1, 64);
  transpose_words_kernel<Word><<<grid, dim3(TILE, TILE_ROWS), 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

cudaError_t transpose_bytes(Launch launch, const ElementwisePlan *plan) {
  using namespace byte_tile;
  const int64_t tiles_down = (plan->size[1] + SIDE - 1) / SIDE, tiles_across = (plan->size[2] + SIDE - 1) / SIDE;
  const int grid = grid_size(launch, plan->size[0] * tiles_down * tiles_across, 1, 64);
  transpose_bytes_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_convert(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Convert{});
}

extern "C" cudaError_t launch_copy_words(Launch launch, const ElementwisePlan *plan, int word_bytes) {
  if (plan->count == 0) return cudaSuccess;
  switch (word_bytes) {
  case 1:
    return copy_words<uint8_t>(launch, plan);
  case 2:
    return copy_words<uint16_t>(launch, plan);
  case 4:
    return copy_words<uint32_t>(launch, plan);
  case 8:
    return copy_words<uint64_t>(launch, plan);
  default:
    return copy_words<uint4>(launch, plan);
  }
}

extern "C" cudaError_t launch_transpose_words(Launch launch, const ElementwisePlan *plan, int word_bytes) {
  if (plan->count == 0) return cudaSuccess;
  switch (word_bytes) {
  case 1:
    return has_runs(plan) ? transpose_bytes(launch, plan) : transpose_words<uint8_t>(launch, plan);
  case 2:
    return transpose_words<uint16_t>(launch, plan);
  case 4:
    return transpose_words<uint32_t>(launch, plan);
  default:
    return transpose_words<uint64_t>(launch, plan);
  }
}
