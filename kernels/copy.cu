/* Copies: conversion between dtypes (or filling, when the input is a number), copies of strided elements as they are,
 * and transposed copies through shared memory, which keep both reading and writing contiguous. */
#include "byte_patch.cuh"
#include "elementwise/elementwise.cuh"

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

/* The thread blocks of one y take a part. */
template <typename Word>
__global__ void __launch_bounds__(ELEMENTWISE_BLOCK) copy_parts_kernel(const __grid_constant__ CopyPartsPlan plan) {
  const CopiedPart &part = plan.part[blockIdx.y];
  for (int64_t i = global_thread(); i < part.count; i += global_threads()) {
    int64_t rest = i, from = 0, to = 0;
    for (int d = part.rank - 1; d > 0; d--) {
      const int64_t quotient = divide(rest, part.size[d]), coordinate = rest - quotient * part.size[d];
      from += coordinate * part.in_stride[d];
      to += coordinate * part.out_stride[d];
      rest = quotient;
    }
    from += rest * part.in_stride[0];
    to += rest * part.out_stride[0];
    static_cast<Word *>(part.out)[to] = static_cast<const Word *>(part.in)[from];
  }
}
static_assert(sizeof(CopyPartsPlan) <= 4096, "parameters of a kernel take no more");

enum { PATCH = 32, PATCH_ROWS = 8 };

/* Thread blocks of 32 × 8 move patches of 32 × 32 words. The column of padding keeps a column of the patch in different
 * banks. */
template <typename Word>
__global__ void __launch_bounds__(PATCH *PATCH_ROWS)
    transpose_words_kernel(const __grid_constant__ ElementwisePlan plan) {
  __shared__ Word patch[PATCH][PATCH + 1];
  const ElementOperand &out = plan.operand[0], &in = plan.operand[1];
  Word *out_data = static_cast<Word *>(out.data);
  const Word *in_data = static_cast<const Word *>(in.data);
  const int64_t rows = plan.size[1], columns = plan.size[2];
  const int64_t patches_down = divide_up(rows, PATCH), patches_across = divide_up(columns, PATCH);
  const int64_t patches = plan.size[0] * patches_down * patches_across;
  for (int64_t i = blockIdx.x; i < patches; i += gridDim.x) {
    const int64_t first_row = i % patches_down * PATCH;
    const int64_t first_column = i / patches_down % patches_across * PATCH;
    const int64_t batch = i / patches_down / patches_across;
    for (int k = threadIdx.y; k < PATCH; k += PATCH_ROWS) {
      const int64_t row = first_row + threadIdx.x, column = first_column + k;
      if (row < rows && column < columns) {
        patch[k][threadIdx.x] = in_data[batch * in.stride[0] + row + column * in.stride[2]];
      }
    }
    __syncthreads();
    for (int k = threadIdx.y; k < PATCH; k += PATCH_ROWS) {
      const int64_t row = first_row + k, column = first_column + threadIdx.x;
      if (row < rows && column < columns) {
        out_data[batch * out.stride[0] + row * out.stride[1] + column] = patch[threadIdx.x][k];
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
  return positions % byte_patch::RUN == 0;
}

__global__ void __launch_bounds__(byte_patch::BLOCK)
    transpose_bytes_kernel(const __grid_constant__ ElementwisePlan plan) {
  using namespace byte_patch;
  __shared__ __align__(16) uint4 chunks[SIDE * RUNS];
  const ElementOperand &out = plan.operand[0], &in = plan.operand[1];
  /* The input's rows lie along the output's columns. */
  const int64_t rows = plan.size[2], columns = plan.size[1];
  const int64_t patches_down = divide_up(rows, SIDE), patches_across = divide_up(columns, SIDE);
  const int64_t patches = plan.size[0] * patches_down * patches_across;
  const int run = threadIdx.x % RUNS, first_row = threadIdx.x / RUNS;
  for (int64_t i = blockIdx.x; i < patches; i += gridDim.x) {
    const int64_t patch_column = i % patches_across * SIDE, patch_row = i / patches_across % patches_down * SIDE;
    const int64_t batch = i / patches_across / patches_down, column = patch_column + run * RUN;
    const uint8_t *from = static_cast<const uint8_t *>(in.data) + batch * in.stride[0] + column;
    uint4 raw[PASSES];
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      const int64_t row = patch_row + first_row + pass * ROWS_AT_ONCE;
      raw[pass] = make_uint4(0, 0, 0, 0);
      if (row < rows && column < columns) raw[pass] = *reinterpret_cast<const uint4 *>(from + row * in.stride[2]);
    }
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) chunks[chunk_at(first_row + pass * ROWS_AT_ONCE, run)] = raw[pass];
    __syncthreads();
    write_columns(chunks, patch_row, patch_column, rows, columns,
                  static_cast<uint8_t *>(out.data) + batch * out.stride[0], out.stride[1]);
    __syncthreads(); /* before the next patch is written */
  }
}

template <typename Word> cudaError_t copy_words(Launch launch, const ElementwisePlan *plan) {
  const int grid = grid_size(launch, plan->count, ELEMENTWISE_BLOCK, 64);
  copy_words_kernel<Word><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

template <typename Word> cudaError_t copy_parts(Launch launch, const CopyPartsPlan *plan) {
  int64_t most = 0;
  for (int i = 0; i < plan->parts; i++) most = plan->part[i].count > most ? plan->part[i].count : most;
  const dim3 grid(grid_size(launch, most, ELEMENTWISE_BLOCK, 64), plan->parts);
  copy_parts_kernel<Word><<<grid, ELEMENTWISE_BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

template <typename Word> cudaError_t transpose_words(Launch launch, const ElementwisePlan *plan) {
  const int64_t patches_down = divide_up(plan->size[1], PATCH), patches_across = divide_up(plan->size[2], PATCH);
  const int grid = grid_size(launch, plan->size[0] * patches_down * patches_across, 1, 64);
  transpose_words_kernel<Word><<<grid, dim3(PATCH, PATCH_ROWS), 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

cudaError_t transpose_bytes(Launch launch, const ElementwisePlan *plan) {
  using namespace byte_patch;
  const int64_t patches_down = divide_up(plan->size[1], SIDE), patches_across = divide_up(plan->size[2], SIDE);
  const int grid = grid_size(launch, plan->size[0] * patches_down * patches_across, 1, 64);
  transpose_bytes_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_convert(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Convert{});
}

extern "C" cudaError_t launch_copy_words(Launch launch, const ElementwisePlan *plan, int word_bytes) {
  if (plan->count == 0) return cudaSuccess;
  return with_word(word_bytes, [&](auto word) { return copy_words<decltype(word)>(launch, plan); });
}

extern "C" cudaError_t launch_copy_parts(Launch launch, const CopyPartsPlan *plan, int word_bytes) {
  return with_word(word_bytes, [&](auto word) { return copy_parts<decltype(word)>(launch, plan); });
}

extern "C" cudaError_t launch_transpose_words(Launch launch, const ElementwisePlan *plan, int word_bytes) {
  if (plan->count == 0) return cudaSuccess;
  if (word_bytes == 1 && has_runs(plan)) return transpose_bytes(launch, plan);
  return with_word(word_bytes, [&](auto word) { return transpose_words<decltype(word)>(launch, plan); });
}
