/* Values made from nothing but their position: ranges and random draws. */
#include "common.cuh"

namespace {

enum { BLOCK = 256, DRAW = 4 };

/* Products and sums are exact to a double's rounding, as the CPU computes them. */
__global__ void __launch_bounds__(BLOCK)
    arange_kernel(void *out, DType dtype, int64_t count, double start, double step, bool exact) {
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    if (exact) {
      store_integer(out, dtype, i, (int64_t)((uint64_t)(int64_t)start + (uint64_t)i * (uint64_t)(int64_t)step));
    } else {
      const double value = start + (double)i * step;
      if (dtype >= DTYPE_U8) {
        store_integer(out, dtype, i, (int64_t)value);
      } else {
        store_float(out, dtype, i, (float)value);
      }
    }
  }
}

/* A thread turns one Philox block into four elements, which it stores at once where `aligned`. */
__global__ void __launch_bounds__(BLOCK) random_float_kernel(void *out, DType dtype, int64_t count, bool normal,
                                                             int bits, RandomSource source, bool aligned) {
  const int64_t draws = (count + DRAW - 1) / DRAW;
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

extern "C" cudaError_t launch_arange(Launch launch, void *out, DType dtype, int64_t count, double start, double step,
                                     bool exact) {
  if (count == 0) return cudaSuccess;
  arange_kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(out, dtype, count, start, step,
                                                                                  exact);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_random(Launch launch, void *out, DType dtype, int64_t count, RandomKind kind,
                                     RandomSource source, int64_t low, uint64_t range) {
  if (count == 0) return cudaSuccess;
  if (kind == RANDOM_INTEGER) {
    const int grid = grid_size(launch, (count + 1) / 2, BLOCK, 64);
    random_integer_kernel<<<grid, BLOCK, 0, launch.stream>>>(out, dtype, count, source, low, range);
  } else {
    const int bits = dtype == DTYPE_F16 ? 11 : dtype == DTYPE_BF16 ? 8 : 24;
    const bool aligned = (uintptr_t)out % 16 == 0;
    const int grid = grid_size(launch, (count + DRAW - 1) / DRAW, BLOCK, 64);
    random_float_kernel<<<grid, BLOCK, 0, launch.stream>>>(out, dtype, count, kind == RANDOM_NORMAL, bits, source,
                                                           aligned);
  }
  return cudaGetLastError();
}
