/* Random draws. */
#include "common.cuh"

namespace {

enum { BLOCK = 256, DRAW = 4 };

/* A thread turns one Philox block into four elements, which it stores at once where `aligned`. */
__global__ void __launch_bounds__(BLOCK) random_float_kernel(void *out, DType dtype, int64_t count, bool normal,
                                                             int bits, RandomSource source, bool aligned) {
  const int64_t draws = divide_up(count, DRAW);
  for (int64_t i = global_thread(); i < draws; i += global_threads()) {
    const RandomBlock block = random_block(source, (uint64_t)i);
    float value[DRAW];
#pragma unroll
    for (int k = 0; k < DRAW; k++) {
      value[k] = normal ? random_normal(block.word[k]) : random_uniform(block.word[k], bits);
    }
    if (aligned && (i + 1) * DRAW <= count) {
      store_vector(out, dtype, i * DRAW, value);
    } else {
#pragma unroll
      for (int k = 0; k < DRAW; k++) {
        if (i * DRAW + k < count) store_float(out, dtype, i * DRAW + k, value[k]);
      }
    }
  }
}

/* A thread turns one Philox block into two elements. */
__global__ void __launch_bounds__(BLOCK)
    random_integer_kernel(void *out, DType dtype, int64_t count, RandomSource source, int64_t low, uint64_t range) {
  const int64_t draws = (count + 1) / 2;
  for (int64_t i = global_thread(); i < draws; i += global_threads()) {
    const RandomBlock block = random_block(source, (uint64_t)i);
    store_integer(out, dtype, 2 * i, random_integer(block.word[0], block.word[1], low, range));
    if (2 * i + 1 < count) {
      store_integer(out, dtype, 2 * i + 1, random_integer(block.word[2], block.word[3], low, range));
    }
  }
}

} // namespace

extern "C" cudaError_t launch_random(Launch launch, void *out, DType dtype, int64_t count, const RandomDraw *draw) {
  if (count == 0) return cudaSuccess;
  switch (draw->kind) {
  case RANDOM_UNIFORM:
  case RANDOM_NORMAL: {
    const bool aligned = (uintptr_t)out % 16 == 0;
    const int grid = grid_size(launch, divide_up(count, DRAW), BLOCK, 64);
    random_float_kernel<<<grid, BLOCK, 0, launch.stream>>>(out, dtype, count, draw->kind == RANDOM_NORMAL,
                                                           uniform_bits(dtype), draw->source, aligned);
    return cudaGetLastError();
  }
  case RANDOM_INTEGER: {
    const int grid = grid_size(launch, divide_up(count, 2), BLOCK, 64);
    random_integer_kernel<<<grid, BLOCK, 0, launch.stream>>>(out, dtype, count, draw->source, draw->low,
                                                             (uint64_t)draw->high - (uint64_t)draw->low);
    return cudaGetLastError();
  }
  }
  trap_missing_case();
}
