/* What a thread block finds out of a quantization's ways before it has a patch. */
#ifndef FP8_NARROW_STATE_CUH
#define FP8_NARROW_STATE_CUH

#include "quantize/ways_state.cuh"

namespace {

enum { PATCH_COLUMNS = 64 };

template <typename F> cudaError_t with_narrow(DType dtype, F f) {
  return dtype == DTYPE_F16 ? f(Half()) : f(BFloat16());
}

struct PatchState {
  UpperScale upper;
  bool ordinary; /* whether all scales in E4M3 below it, but 0, are usual */
  RandomSource random;
  float bound;                              /* smaller numbers are rounded to no larger one than the limit */
  float factor;                             /* of the transform */
  alignas(16) uint32_t sign[PATCH_COLUMNS]; /* flips a number of row i of a group, or word i of a row */
};

__device__ inline bool has_ordinary_scales(const UpperScale &upper) {
  const float scale = upper.direct ? upper.absmax * upper.inverse_most : upper.decode;
  return upper.decode > 0x1p-80f && upper.decode < 0x1p80f && scale > 0x1p-80f && scale < 0x1p80f;
}

/* The limit and half a step more. */
__device__ inline float rounding_bound(const QuantizePlan &plan) {
  const float limit = plan.rule.limit;
  const float step =
      float_from_bits(grid_exponent_bits(&plan.grid, limit)) * float_from_bits((uint32_t)(127 - plan.grid.bits) << 23);
  return limit + step * 0.5f;
}

__device__ inline uint32_t word_of_four(const uint32_t *word, int i) {
  const uint32_t low = i & 1 ? word[1] : word[0], high = i & 1 ? word[3] : word[2];
  return i & 2 ? high : low;
}

/* hadamard_factor as a constant. */
__device__ inline float factor_of(int length) {
  return length == 16 ? hadamard_factor(16) : length == 32 ? hadamard_factor(32) : hadamard_factor(64);
}

/* By PATCH_COLUMNS threads. */
__device__ inline void write_signs(const WayPlan &way, int thread, PatchState &state) {
  const HadamardRule &rule = way.hadamard;
  const int first = (rule.down ? thread : 2 * thread) & (rule.length - 1);
  uint32_t negative[HADAMARD_MOST / 32];
  find_signs(way, negative);
  const uint32_t bits = word_of_four(negative, first / 32) >> first % 32;
  if (rule.down) state.sign[thread] = bits << 31;
  if (!rule.down && thread < PATCH_COLUMNS / 2) state.sign[thread] = (bits & 1) << 15 | (bits & 2) << 30;
  if (thread == 0) state.factor = factor_of(rule.length);
}

/* The largest of a warp's share of what launch_measure_ways left for a way, `threads` threads. */
__device__ inline uint32_t largest_of_warps_share(const WayPlan &way, int thread, int threads) {
  uint32_t largest = 0;
  if (!way.maxima) return 0;
#pragma unroll 4
  for (int i = thread; i < way.maxima_count; i += threads) largest = max(largest, way.maxima[i]);
  return largest_of_warp(largest);
}

/* Each way by its share of the threads; upper_of(w, magnitude): what is above the scales of way w. */
template <typename F> __device__ inline void find_states(const WaysPlan &plan, PatchState *states, const F &upper_of) {
  constexpr int share = BLOCK / WAYS_MOST;
  static_assert(share == PATCH_COLUMNS, "a thread for each sign");
  __shared__ uint32_t largest[WARPS];
  const int w = threadIdx.x / share, thread = threadIdx.x % share;
  const bool exists = w < plan.count;
  if (exists) {
    const uint32_t of_warp = largest_of_warps_share(plan.way[w], thread, share);
    if (thread % WARP == 0) largest[threadIdx.x / WARP] = of_warp;
    if (plan.way[w].hadamard.length > 0) write_signs(plan.way[w], thread, states[w]);
  }
  __syncthreads();
  if (exists && thread == 0) {
    const WayPlan &way = plan.way[w];
    PatchState &state = states[w];
    uint32_t magnitude = 0;
#pragma unroll
    for (int i = 0; i < share / WARP; i++) magnitude = max(magnitude, largest[w * (share / WARP) + i]);
    state.upper = upper_of(w, magnitude);
    state.ordinary = has_ordinary_scales(state.upper);
    state.random = live_source(way, way.quantize.random);
    state.bound = rounding_bound(way.quantize);
  }
  __syncthreads();
}

} // namespace

#endif
