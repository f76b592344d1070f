/* What all thread blocks of a quantization in small blocks find out before they quantize: signs of transforms, random
 * numbers, and what is above the scales of blocks. */
#ifndef FP8_WAYS_STATE_CUH
#define FP8_WAYS_STATE_CUH

#include "quantize/warp_patches.cuh"
#include "quantize/ways.h"
#include "quantize/ways_vector.cuh"

namespace {

/* A source that counts from what is in memory, if there is such. */
__device__ inline RandomSource live_source(const WayPlan &way, RandomSource source) {
  const uint32_t *live = way.live_random;
  if (!live) return source;
  source.seed = live[0] | (uint64_t)live[1] << 32;
  source.offset += live[2] | (uint64_t)live[3] << 32;
  return source;
}

__device__ inline void find_signs(const WayPlan &way, uint32_t (&negative)[HADAMARD_MOST / 32]) {
  RandomBlock drawn;
  if (way.hadamard.drawn > 0) drawn = random_block(live_source(way, {0, way.hadamard.drawn - 1}), 0);
#pragma unroll
  for (int i = 0; i < HADAMARD_MOST / 32; i++) {
    negative[i] = way.hadamard.drawn > 0 ? drawn.word[i] : way.hadamard.negative[i];
  }
}

/* By the largest magnitude of what launch_measure_ways or x's writer left, if the way has such words. */
__device__ inline UpperScale upper_of_way(const WayPlan &way, uint32_t magnitude) {
  if (!way.maxima) return upper_of(way.quantize, 0);
  return upper_scale(&way.quantize.rule, float_from_bits(magnitude < infinity_bits ? magnitude : nan_bits));
}

} // namespace

#endif
