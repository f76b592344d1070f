/* What threads count and add up of a tensor and of what quantizing made of it, and how that becomes one Comparison. The
 * order never depends on timing. */
#ifndef FP8_TALLY_CUH
#define FP8_TALLY_CUH

#include <float.h>

#include "common.cuh"

namespace {

/* What a thread has seen so far. */
struct Tally {
  uint32_t count, zeros, nonfinite, underflow, saturated;
  int64_t first_nonfinite;
  float absmax, relative_error;
  double sum, square_sum, error_square_sum;
};

__device__ inline void take(Tally &all, float x, float value, float low, float high, int64_t position) {
  all.count++;
  if (!(fabsf(x) <= FLT_MAX)) {
    all.nonfinite++;
    if (position < all.first_nonfinite) all.first_nonfinite = position;
    return;
  }
  const bool outside = x > high || x < low;
  const float error = x - value;
  all.zeros += x == 0;
  all.saturated += outside;
  all.underflow += x != 0 && value == 0 && !outside;
  all.sum += x;
  all.square_sum += (double)x * x;
  all.error_square_sum += (double)error * error;
  all.absmax = fmaxf(all.absmax, fabsf(x));
  const float ratio = x == 0 || value == 0 ? 0 : fabsf(error) / fabsf(x);
  if (ratio > all.relative_error || ratio != ratio) all.relative_error = ratio; /* NaN stays */
}

__device__ inline Tally empty_tally() {
  Tally all = {};
  all.first_nonfinite = INT64_MAX;
  return all;
}

__device__ inline double larger_or_nan(double a, double b) { return b > a || b != b ? b : a; }

/* Positions of the first non-finite elements are INT64_MAX where there is none. */
__device__ inline void add_up(Comparison &all, const Comparison &other) {
  all.count += other.count;
  all.zeros += other.zeros;
  all.nonfinite += other.nonfinite;
  all.underflow += other.underflow;
  all.saturated += other.saturated;
  if (other.first_nonfinite < all.first_nonfinite) all.first_nonfinite = other.first_nonfinite;
  all.sum += other.sum;
  all.square_sum += other.square_sum;
  all.error_square_sum += other.error_square_sum;
  all.absmax = larger_or_nan(all.absmax, other.absmax);
  all.relative_error = larger_or_nan(all.relative_error, other.relative_error);
}

/* Those of a one-dimensional thread block, right in its first thread. All threads together. */
__device__ inline Comparison across_block(Comparison all) {
  __shared__ Comparison of_warp[WARP];
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) {
    Comparison other;
    other.count = shuffle_xor(all.count, mask);
    other.zeros = shuffle_xor(all.zeros, mask);
    other.nonfinite = shuffle_xor(all.nonfinite, mask);
    other.first_nonfinite = shuffle_xor(all.first_nonfinite, mask);
    other.underflow = shuffle_xor(all.underflow, mask);
    other.saturated = shuffle_xor(all.saturated, mask);
    other.sum = shuffle_xor(all.sum, mask);
    other.square_sum = shuffle_xor(all.square_sum, mask);
    other.error_square_sum = shuffle_xor(all.error_square_sum, mask);
    other.absmax = shuffle_xor(all.absmax, mask);
    other.relative_error = shuffle_xor(all.relative_error, mask);
    add_up(all, other);
  }
  if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = all;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < (int)blockDim.x / WARP; i++) add_up(all, of_warp[i]);
  }
  return all;
}

/* The thread block's Comparison to its place in `partials`. All threads together. */
__device__ inline void leave_tally(const Tally &own, Comparison *partials) {
  Comparison all = {own.count,         own.zeros, own.nonfinite,  own.first_nonfinite,  own.underflow,
                    own.saturated,     own.sum,   own.square_sum, own.error_square_sum, own.absmax,
                    own.relative_error};
  all = across_block(all);
  if (threadIdx.x == 0) partials[blockIdx.x] = all;
}

} // namespace

#endif
