/* How a block's largest magnitude becomes its scale, a scaled number a code, and a code a number again: by a map, or a
 * hardware format. */
#ifndef FP8_QUANTIZE_CUH
#define FP8_QUANTIZE_CUH

#include "common.cuh"
#include "quantize.h"

constexpr uint32_t infinity_bits = 0x7F800000u;
constexpr uint32_t nan_bits = 0x7FC00000u;

/* ENCODING_ANY looks at the plan in every call, for rarely used shapes; the others leave only their own code in a
 * kernel. */
enum Encoding { ENCODING_MAP, ENCODING_E4M3, ENCODING_E5M2, ENCODING_ANY };

inline Encoding encoding_of(const QuantizePlan &plan) {
  if (plan.map) return ENCODING_MAP;
  return plan.format == DTYPE_E4M3 ? ENCODING_E4M3 : ENCODING_E5M2;
}

template <Encoding ENCODING> __device__ inline bool uses(const QuantizePlan &plan, Encoding encoding) {
  if (ENCODING != ENCODING_ANY) return ENCODING == encoding;
  if (plan.map) return encoding == ENCODING_MAP;
  return encoding == (plan.format == DTYPE_E4M3 ? ENCODING_E4M3 : ENCODING_E5M2);
}

/* `random` is 32 uniform bits, unused unless `stochastic`. */
template <Encoding ENCODING>
__device__ inline uint8_t encode(const QuantizePlan &plan, const MapTable &table, float scaled, bool stochastic,
                                 uint32_t random) {
  if (uses<ENCODING>(plan, ENCODING_MAP)) {
    return stochastic ? map_stochastic(table.value, table.midpoint, table.start, scaled, random)
                      : map_nearest(table.midpoint, table.start, scaled);
  }
  if (uses<ENCODING>(plan, ENCODING_E4M3)) {
    return stochastic ? e4m3_stochastic(scaled, random) : e4m3_from_float(scaled, true);
  }
  return stochastic ? e5m2_stochastic(scaled, random) : e5m2_from_float(scaled, true);
}

/* The entries of a map in `value`, or a hardware format. */
template <Encoding ENCODING>
__device__ inline float decode(const QuantizePlan &plan, const float *value, uint8_t code) {
  if (uses<ENCODING>(plan, ENCODING_MAP)) return value[code];
  return uses<ENCODING>(plan, ENCODING_E4M3) ? e4m3_to_float(code) : e5m2_to_float(code);
}

struct Scaling {
  float scale, inverse;
  bool divide, empty; /* empty: zero or NaN, the elements count as 0 */
  bool broken;
};

template <Encoding ENCODING> __device__ inline Scaling scaling_of(const QuantizePlan &plan, float scale) {
  Scaling scaling;
  scaling.scale = scale;
  scaling.broken = scale != scale;
  scaling.empty = scale == 0.0f || scaling.broken;
  scaling.inverse = 1.0f / scale;
  scaling.divide = (uses<ENCODING>(plan, ENCODING_MAP) && plan.divide) || isinf(scaling.inverse);
  return scaling;
}

template <Encoding ENCODING> __device__ inline float scale_of(const QuantizePlan &plan, uint32_t magnitude) {
  const DType format = uses<ENCODING>(plan, ENCODING_MAP)    ? DTYPE_U8
                       : uses<ENCODING>(plan, ENCODING_E4M3) ? DTYPE_E4M3
                                                             : DTYPE_E5M2;
  return scale_of_magnitude(magnitude, format, plan.scale_rounding);
}

template <Encoding ENCODING>
__device__ inline uint8_t code_of(const QuantizePlan &plan, const MapTable &table, const Scaling &scaling, float value,
                                  bool stochastic, uint32_t random) {
  if (scaling.broken && !uses<ENCODING>(plan, ENCODING_MAP)) return 0x7F; /* NaN in both formats */
  float scaled = scaling.divide ? value / scaling.scale : value * scaling.inverse;
  if (scaling.empty) scaled = 0.0f;
  return encode<ENCODING>(plan, table, scaled, stochastic, random);
}

/* Decoded elements i … i + N - 1. */
template <int N> __device__ inline void store_values(const QuantizePlan &plan, int64_t i, const float (&value)[N]) {
  with_scalar(plan.values_dtype, [&](auto scalar) { store_as<decltype(scalar)>(plan.values, i, value); });
}

/* The random words of elements i … i + WIDTH - 1; i is a multiple of 4 unless WIDTH is 1. */
template <int WIDTH> __device__ inline void random_words(RandomSource source, int64_t i, uint32_t (&word)[WIDTH]) {
  if (WIDTH == 1) {
    const RandomBlock block = random_block(source, (uint64_t)i / 4);
    const uint32_t low = i & 1 ? block.word[1] : block.word[0], high = i & 1 ? block.word[3] : block.word[2];
    word[0] = i & 2 ? high : low;
  } else {
#pragma unroll
    for (int k = 0; k < WIDTH; k += 4) {
      const RandomBlock block = random_block(source, (uint64_t)(i + k) / 4);
#pragma unroll
      for (int j = 0; j < 4 && k + j < WIDTH; j++) word[k + j] = block.word[j];
    }
  }
}

/* The whole tensor's largest magnitude from what launch_measure left, for the whole thread block. */
__device__ inline uint32_t whole_maximum(const uint32_t *maxima, int count) {
  __shared__ uint32_t warp_largest[WARP];
  uint32_t largest = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) largest = max(largest, maxima[i]);
  for (int mask = WARP / 2; mask > 0; mask /= 2) largest = max(largest, shuffle_xor(largest, mask));
  if (threadIdx.x % WARP == 0) warp_largest[threadIdx.x / WARP] = largest;
  __syncthreads();
  for (int i = 0; i < (int)blockDim.x / WARP; i++) largest = max(largest, warp_largest[i]);
  return largest;
}

/* The largest of a group's magnitudes, for all of its threads; groups larger than a warp are synchronized together.
 * `shared` has a word for every warp and alternates between two arrays from call to call: one barrier is enough. */
__device__ inline uint32_t group_maximum(uint32_t magnitude, int group, uint32_t *shared) {
  for (int mask = min(group, WARP) / 2; mask > 0; mask /= 2) magnitude = max(magnitude, shuffle_xor(magnitude, mask));
  if (group <= WARP) return magnitude;
  const int warp = threadIdx.x / WARP, warps = group / WARP;
  if (threadIdx.x % WARP == 0) shared[warp] = magnitude;
  __syncthreads();
  const int first = warp / warps * warps;
  for (int i = first; i < first + warps; i++) magnitude = max(magnitude, shared[i]);
  return magnitude;
}

/* Copies `bytes` (a multiple of 16) of a map's table into shared memory, the whole thread block together. */
__device__ inline void stage_table(void *shared, const MapTable *table, int bytes) {
  const uint4 *from = reinterpret_cast<const uint4 *>(table);
  uint4 *to = static_cast<uint4 *>(shared);
  for (int i = threadIdx.x; i < bytes / (int)sizeof(uint4); i += blockDim.x) to[i] = from[i];
  __syncthreads();
}

#endif
