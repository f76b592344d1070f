/* The pass before a quantization of 16-bit matrices in small blocks, where transforms of columns are among its ways: largest
 * magnitudes of all of the matrix and of its transforms, and the sums of its columns. */
#include "quantize/narrow/narrow.h"
#include "quantize/narrow/transform.cuh"

namespace {

enum { MEASURING = 256, MEASURING_WARPS = MEASURING / WARP, MEASURING_EACH = 2 };

/* How a warp's lanes and a thread block's warps lie: so many below one another, and beside one another. A strip is what lies
 * below one warp. */
struct MeasuringShape {
  int below, beside, warps_below, warps_beside;
  int64_t strips, across; /* of the matrix; in thread blocks, the last of which may have less */

  __host__ __device__ explicit MeasuringShape(const WaysPlan &plan) {
    int length = GROUP;
    for (int i = 0; i < plan.count; i++) {
      if (plan.way[i].hadamard.length > length) length = plan.way[i].hadamard.length;
    }
    below = length / GROUP;
    beside = WARP / below;
    strips = plan.columns / (2 * beside);
    warps_beside = MEASURING_WARPS;
    while (warps_beside > strips) warps_beside /= 2;
    warps_below = MEASURING_WARPS / warps_beside;
    across = divide_up(strips, (int64_t)warps_beside);
  }
};

/* NaN if one of them is. */
__device__ inline float larger_of(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

__device__ inline float largest_of_group(float (&value)[GROUP], float largest) {
  add_and_subtract_apart<1, GROUP / 2>(value);
#pragma unroll
  for (int j = 0; j < GROUP / 2; j++) largest = larger_of(largest, fabsf(value[j]) + fabsf(value[j + GROUP / 2]));
  return largest;
}

/* Of a transform of 16, without its factor: of a sum and a difference the larger one is the sum of magnitudes. One column
 * after the other, for fewer registers. */
template <typename Scalar>
__device__ inline float largest_of_transform(const PatchState &state, const uint32_t (&x)[GROUP], float largest) {
  float low[GROUP], high[GROUP];
  unpack_group<Scalar>(state.sign, x, low, high);
  largest = largest_of_group(low, largest);
  asm volatile("" ::: "memory");
  unpack_group<Scalar>(state.sign, x, low, high);
  return largest_of_group(high, largest);
}

/* A thread's largest magnitudes of a way: of pairs of elements, and of sums. */
struct Largest {
  uint32_t of_words;
  float of_sums;
};

template <typename Scalar> __device__ inline uint32_t magnitude_of(const Largest &largest, float factor) {
  Scalar rounded;
  from_float(largest.of_sums * factor, true, rounded);
  return max(magnitude_bits(largest.of_words, Scalar()), float_to_bits(to_float(rounded)));
}

/* A warp keeps to a strip. LONG: whether there are transforms of more than a lane's rows. */
template <typename Scalar, bool SUM, bool LONG>
__global__ void __launch_bounds__(MEASURING, MEASURING_EACH)
    measure_narrow_kernel(const __grid_constant__ WaysPlan plan) {
  __shared__ PatchState states[WAYS_MOST];
  const int writing = threadIdx.x / PATCH_COLUMNS;
  if (writing < plan.count && plan.way[writing].hadamard.length > 0) {
    write_signs(plan.way[writing], threadIdx.x % PATCH_COLUMNS, states[writing]);
  }
  __syncthreads();
  const MeasuringShape shape(plan);
  const int below = LONG ? shape.below : 1, beside = WARP / below;
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  const int group = (int)(blockIdx.x / shape.across);
  const int64_t first_strip = (blockIdx.x - group * shape.across) * shape.warps_beside;
  const int64_t strip = first_strip + (warp & (shape.warps_beside - 1)), column = (strip * beside + lane % beside) * 2;
  const int turns = strip < shape.strips ? (int)(plan.rows / (GROUP * below)) : 0;
  const int first = group * shape.warps_below + warp / shape.warps_beside, stride = plan.groups * shape.warps_below;
  const Scalar *from =
      static_cast<const Scalar *>(plan.x) + column + ((int64_t)first * below + lane / beside) * GROUP * plan.columns;
  const auto load = [&](uint32_t(&x)[GROUP]) {
#pragma unroll
    for (int j = 0; j < GROUP; j++) x[j] = *reinterpret_cast<const uint32_t *>(from + j * plan.columns);
  };
  Largest largest[WAYS_MOST] = {};
  float low_sum = 0, high_sum = 0;
  uint32_t x[GROUP];
  if (first < turns) load(x);
#pragma unroll 1
  for (int turn = first; turn < turns; turn += stride) {
    const int row = (turn * below + lane / beside) * GROUP;
    uint32_t next[GROUP];
    if (!LONG) {
      from += (int64_t)stride * GROUP * plan.columns;
      if (turn + stride < turns) load(next);
    }
    if (SUM) {
#pragma unroll
      for (int j = 0; j < GROUP; j++) {
        float low, high;
        unpack_word(x[j], Scalar(), low, high);
        low_sum += low;
        high_sum += high;
      }
    }
#pragma unroll 1
    for (int w = 0; w < plan.count; w++) {
      if (!plan.way[w].measures) continue;
      const HadamardRule &rule = plan.way[w].hadamard;
      Largest of_way = w == 0 ? largest[0] : largest[1];
      if (rule.length == GROUP) {
        of_way.of_sums = largest_of_transform<Scalar>(states[w], x, of_way.of_sums);
      } else {
        if (LONG && rule.length > 0) transform_words<Scalar>(rule, states[w], row, beside, x);
#pragma unroll
        for (int j = 0; j < GROUP; j++) of_way.of_words = raise<Scalar>(of_way.of_words, x[j]);
        if (LONG && rule.length > 0) load(x);
      }
      if (w == 0) {
        largest[0] = of_way;
      } else {
        largest[1] = of_way;
      }
    }
    if (LONG) {
      from += (int64_t)stride * below * GROUP * plan.columns;
      if (turn + stride < turns) load(x);
    } else {
#pragma unroll
      for (int j = 0; j < GROUP; j++) x[j] = next[j];
    }
  }
#pragma unroll
  for (int w = 0; w < WAYS_MOST; w++) {
    if (w < plan.count && plan.way[w].measures) {
      write_maximum<MEASURING>(plan.way[w].maxima, magnitude_of<Scalar>(largest[w], hadamard_factor(GROUP)));
    }
  }
  if constexpr (SUM) {
#pragma unroll 1
    for (int step = beside; step < WARP; step *= 2) {
      low_sum += shuffle_xor(low_sum, step);
      high_sum += shuffle_xor(high_sum, step);
    }
    __shared__ float sums[MEASURING_WARPS][WARP * 2];
    sums[warp][lane % beside * 2] = low_sum; /* the same of all lanes below one another */
    sums[warp][lane % beside * 2 + 1] = high_sum;
    __syncthreads();
    for (int i = threadIdx.x; i < shape.warps_beside * beside * 2; i += MEASURING) {
      const int64_t at = first_strip * beside * 2 + i;
      float total = 0;
      for (int w = i / (beside * 2); w < MEASURING_WARPS; w += shape.warps_beside) total += sums[w][i % (beside * 2)];
      if (at < plan.columns) plan.partials[group * plan.columns + at] = total;
    }
  }
}

} // namespace

/* --- launching --- */

bool measures_narrow(const WaysPlan &plan) {
  bool down = false;
  for (int i = 0; i < plan.count; i++) {
    const HadamardRule &rule = plan.way[i].hadamard;
    if (rule.length > 64 || (rule.length > 0 && !rule.down)) return false;
    down = down || rule.length > 0;
  }
  if (!down || plan.dtype == DTYPE_F32 || plan.columns % PATCH_COLUMNS != 0) return false;
  return plan.rows % (GROUP * MeasuringShape(plan).below) == 0;
}

/* Groups for as many thread blocks as there is room for, of turns that are the same for all but the last. */
int measure_narrow_shape(Launch launch, WaysPlan &plan) {
  constexpr int64_t longest_chain = 64;
  const MeasuringShape shape(plan);
  const int64_t turns = divide_up(plan.rows / (GROUP * shape.below), (int64_t)shape.warps_below);
  const int64_t resident = (int64_t)launch.multiprocessors * MEASURING_EACH / shape.across;
  const int64_t chain = resident > 0 ? divide_up(turns, resident) : turns;
  plan.groups = (int)divide_up(turns, chain < longest_chain ? chain : longest_chain);
  return (int)(plan.groups * shape.across);
}

cudaError_t launch_measure_narrow(Launch launch, const WaysPlan &plan) {
  const MeasuringShape shape(plan);
  return with_narrow(plan.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const bool longer = shape.below > 1;
    const auto kernel =
        plan.partials
            ? (longer ? measure_narrow_kernel<Scalar, true, true> : measure_narrow_kernel<Scalar, true, false>)
            : (longer ? measure_narrow_kernel<Scalar, false, true> : measure_narrow_kernel<Scalar, false, false>);
    kernel<<<(unsigned)(plan.groups * shape.across), MEASURING, 0, launch.stream>>>(plan);
    return cudaGetLastError();
  });
}
