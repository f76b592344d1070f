/* Dropout. The four words of a random block are those of four neighbouring elements; a thread takes eight elements, two
 * blocks, so that it moves 16 bytes of a 16-bit dtype at once. */
#include "common.cuh"

namespace {

enum { BLOCK = 256, WIDTH = 8, WORDS = 4 };

struct Mask {
  RandomSource source;
  float probability, scale;

  /* The factors of elements i … i + 7, for i a multiple of 8. */
  __device__ void factors(int64_t i, float (&factor)[WIDTH]) const {
#pragma unroll
    for (int half = 0; half < WIDTH / WORDS; half++) {
      const RandomBlock block = random_block(source, (uint64_t)i / WORDS + half);
#pragma unroll
      for (int k = 0; k < WORDS; k++) {
        factor[half * WORDS + k] = random_uniform(block.word[k], 24) >= probability ? scale : 0.0f;
      }
    }
  }
};

template <bool ALIGNED>
__global__ void __launch_bounds__(BLOCK)
    dropout_kernel(void *out, const void *x, DType dtype, int64_t count, const Mask mask) {
  const int64_t groups = divide_up(count, WIDTH);
  for (int64_t group = global_thread(); group < groups; group += global_threads()) {
    const int64_t i = group * WIDTH;
    float factor[WIDTH], value[WIDTH];
    mask.factors(i, factor);
    if (ALIGNED && i + WIDTH <= count) {
      load_vector(x, dtype, i, value);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) value[k] *= factor[k];
      store_vector(out, dtype, i, value);
    } else {
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        if (i + k < count) store_float(out, dtype, i + k, load_float(x, dtype, i + k) * factor[k]);
      }
    }
  }
}

} // namespace

extern "C" cudaError_t launch_dropout(Launch launch, void *out, const void *x, DType dtype, int64_t count,
                                      float probability, RandomSource source) {
  if (count == 0) return cudaSuccess;
  const Mask mask = {source, probability, 1.0f / (1.0f - probability)};
  const int grid = grid_size(launch, divide_up(count, WIDTH), BLOCK, 64);
  const bool aligned = ((uintptr_t)out | (uintptr_t)x) % 16 == 0;
  const auto kernel = aligned ? dropout_kernel<true> : dropout_kernel<false>;
  kernel<<<grid, BLOCK, 0, launch.stream>>>(out, x, dtype, count, mask);
  return cudaGetLastError();
}
