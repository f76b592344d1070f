/* How a block's largest magnitude becomes its scale, a scaled number a code, and a code a number again: by a map, or a
 * hardware format. */
#ifndef FP8_QUANTIZE_CUH
#define FP8_QUANTIZE_CUH

#include "core/formats/scale.h"

#include "common.cuh"
#include "quantize/quantize.h"
#include "vectors.cuh"

constexpr uint32_t infinity_bits = 0x7F800000u;
constexpr uint32_t nan_bits = 0x7FC00000u;

/* ENCODING_GRID is a map that has a grid, ENCODING_MAP any map, ENCODING_STOCHASTIC stochastic rounding by a grid, of a map
 * or of a hardware format, ENCODING_POWERS that to powers of two, ENCODING_STOCHASTIC_MAP that of any map. ENCODING_ANY
 * looks at the plan in every call, for rarely used shapes; the others leave only their own code in a kernel. */
enum Encoding {
  ENCODING_MAP,
  ENCODING_GRID,
  ENCODING_E4M3,
  ENCODING_E5M2,
  ENCODING_STOCHASTIC,
  ENCODING_POWERS,
  ENCODING_STOCHASTIC_MAP,
  ENCODING_ANY
};

__host__ __device__ inline Encoding encoding_of(const QuantizePlan &plan) {
  switch (plan.format) {
  case DTYPE_U8:
    return ENCODING_MAP;
  case DTYPE_E4M3:
    return ENCODING_E4M3;
  case DTYPE_E5M2:
    return ENCODING_E5M2;
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  return missing_case<Encoding>();
}

/* Of the type of a hardware format's codes. */
template <typename Code> constexpr Encoding encoding_of_code = ENCODING_ANY;
template <> constexpr Encoding encoding_of_code<E4M3> = ENCODING_E4M3;
template <> constexpr Encoding encoding_of_code<E5M2> = ENCODING_E5M2;

template <Encoding ENCODING> struct EncodingIs { static constexpr Encoding value = ENCODING; };

/* f of the plan's encoding as a type, a map being ENCODING_MAP. */
template <typename F> inline auto with_encoding(const QuantizePlan &plan, F f) {
  switch (encoding_of(plan)) {
  case ENCODING_MAP:
    return f(EncodingIs<ENCODING_MAP>());
  case ENCODING_E4M3:
    return f(EncodingIs<ENCODING_E4M3>());
  case ENCODING_E5M2:
    return f(EncodingIs<ENCODING_E5M2>());
  case ENCODING_GRID:
  case ENCODING_STOCHASTIC:
  case ENCODING_POWERS:
  case ENCODING_STOCHASTIC_MAP:
  case ENCODING_ANY:
    break;
  }
  trap_missing_case();
}

template <Encoding ENCODING>
constexpr bool is_at_random = ENCODING == ENCODING_STOCHASTIC || ENCODING == ENCODING_POWERS;
template <Encoding ENCODING>
constexpr bool is_stochastic = is_at_random<ENCODING> || ENCODING == ENCODING_STOCHASTIC_MAP;
template <Encoding ENCODING>
constexpr bool is_looked_up = ENCODING == ENCODING_MAP || ENCODING == ENCODING_STOCHASTIC_MAP;
template <Encoding ENCODING> constexpr bool is_any = ENCODING == ENCODING_ANY || is_stochastic<ENCODING>;

/* That of the plan's format, if it is any. */
template <Encoding ENCODING> __host__ __device__ inline Encoding encoding_in(const QuantizePlan &plan) {
  return is_any<ENCODING> ? encoding_of(plan) : ENCODING;
}

template <Encoding ENCODING> __device__ inline bool uses_map(const QuantizePlan &plan) {
  return is_any<ENCODING> ? plan.map != nullptr : ENCODING == ENCODING_MAP || ENCODING == ENCODING_GRID;
}

/* `random` is 32 uniform bits, unused unless `stochastic`. */
template <Encoding ENCODING>
__host__ __device__ inline uint8_t encode(const QuantizePlan &plan, const MapTable &table, float scaled,
                                          bool stochastic, uint32_t random) {
  switch (encoding_in<ENCODING>(plan)) {
  case ENCODING_MAP:
    if (!stochastic) return map_nearest(table.midpoint, table.start, scaled);
    return plan.grid.bits > 0 ? grid_code(&plan.grid, grid_stochastic(&plan.grid, scaled, random))
                              : map_stochastic(table.value, table.midpoint, table.start, scaled, random);
  case ENCODING_GRID:
    return grid_code(&plan.grid,
                     stochastic ? grid_stochastic(&plan.grid, scaled, random) : grid_nearest(&plan.grid, scaled));
  case ENCODING_E4M3:
    return stochastic ? e4m3_stochastic(scaled, random) : e4m3_from_float(scaled, true);
  case ENCODING_E5M2:
    return stochastic ? e5m2_stochastic(scaled, random) : e5m2_from_float(scaled, true);
  case ENCODING_STOCHASTIC:
  case ENCODING_POWERS:
  case ENCODING_STOCHASTIC_MAP:
  case ENCODING_ANY:
    break;
  }
  return missing_case<uint8_t>();
}

/* The entries of a map in `value`, or a hardware format. */
template <Encoding ENCODING>
__host__ __device__ inline float decode(const QuantizePlan &plan, const float *value, uint8_t code) {
  switch (encoding_in<ENCODING>(plan)) {
  case ENCODING_MAP:
    return value[code];
  case ENCODING_GRID:
    return grid_value(&plan.grid, code);
  case ENCODING_E4M3:
    return e4m3_to_float(code);
  case ENCODING_E5M2:
    return e5m2_to_float(code);
  case ENCODING_STOCHASTIC:
  case ENCODING_POWERS:
  case ENCODING_STOCHASTIC_MAP:
  case ENCODING_ANY:
    break;
  }
  return missing_case<float>();
}

static_assert(compiled_for_host<&encode<ENCODING_ANY>> && compiled_for_host<&decode<ENCODING_ANY>>);

/* By a known scale, or one that is not in E4M3. */
template <Encoding ENCODING> __device__ inline BlockScaling scaling_of(const QuantizePlan &plan, float scale) {
  BlockScaling scaling = block_scaling(scale, 1.0f / scale, uses_map<ENCODING>(plan) && plan.divide);
  if (uses_map<ENCODING>(plan)) scaling.limit = plan.rule.limit;
  return scaling;
}

__device__ inline float scale_of(const QuantizePlan &plan, uint32_t magnitude) {
  return scale_by_rule(magnitude, &plan.rule);
}

/* What is above the scale of a block in E4M3. */
__device__ inline UpperScale upper_of(const QuantizePlan &plan, int64_t block) {
  if (!plan.upper) return no_upper_scale(&plan.rule);
  return upper_scale(&plan.rule, plan.upper[plan.upper_each > 0 ? divide(block, plan.upper_each) : 0]);
}

/* By a scale in E4M3. */
template <Encoding ENCODING>
__device__ inline BlockScaling scaling_under(const QuantizePlan &plan, float stored, const UpperScale &upper) {
  BlockScaling scaling = scaling_below(stored, &upper);
  if (uses_map<ENCODING>(plan)) scaling.limit = plan.rule.limit;
  return scaling;
}

template <Encoding ENCODING>
__device__ inline BlockScaling scaling_of_block(const QuantizePlan &plan, int64_t block, uint32_t magnitude) {
  if (plan.rule.rounding != SCALE_E4M3) return scaling_of<ENCODING>(plan, scale_of(plan, magnitude));
  const UpperScale upper = upper_of(plan, block);
  return scaling_under<ENCODING>(plan, scale_below(magnitude, &upper), upper);
}

template <Encoding ENCODING>
__device__ inline uint8_t code_of(const QuantizePlan &plan, const MapTable &table, const BlockScaling &scaling,
                                  float value, bool stochastic, uint32_t random) {
  if (scaling.broken && !uses_map<ENCODING>(plan)) return 0x7F; /* NaN in both formats */
  return encode<ENCODING>(plan, table, scaled_element(value, &scaling), stochastic, random);
}

/* Decoded elements i … i + N - 1. */
template <int N> __device__ inline void store_values(const QuantizePlan &plan, int64_t i, const float (&value)[N]) {
  with_scalar(plan.values_dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if constexpr (N == vector_width<Scalar>) {
      store_vector(reinterpret_cast<uint4 *>(static_cast<Scalar *>(plan.values) + i), pack<Scalar>(value));
    } else {
      store_as<Scalar>(plan.values, i, value);
    }
  });
}

/* Bits for the stochastic rounding of elements i … i + WIDTH - 1 from the block that they are in; i is a multiple of WIDTH,
 * which is 1, 4 or 8. */
template <int WIDTH> __device__ inline void share_block(const RandomBlock &block, int64_t i, uint32_t (&bits)[WIDTH]) {
  if (WIDTH == 1) {
    const uint32_t low = i & 2 ? block.word[1] : block.word[0], high = i & 2 ? block.word[3] : block.word[2];
    bits[0] = rounding_bits_of(i & 4 ? high : low, i);
  } else {
    const bool second = WIDTH == 4 && i & 4;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      bits[k] = rounding_bits_of(second ? block.word[(2 + k / 2) % 4] : block.word[k / 2], k);
    }
  }
}
/* Their upper 24 bits, of 4 or 8 elements; words of which the bytes are picked, as the compiler would not. */
template <int WIDTH> __device__ inline void share_upper(const RandomBlock &block, int64_t i, uint32_t (&bits)[WIDTH]) {
  const bool second = WIDTH == 4 && i & 4;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    bits[k] = __byte_perm(second ? block.word[(2 + k / 2) % 4] : block.word[k / 2], 0, k % 2 == 0 ? 0x4321 : 0x4103);
  }
}
template <int WIDTH> __device__ inline void rounding_bits(RandomSource source, int64_t i, uint32_t (&bits)[WIDTH]) {
  share_block(random_block(source, (uint64_t)i / 8), i, bits);
}

/* The largest of a thread's share of words that the whole thread block reads: eight at once, whatever their number. */
__device__ inline uint32_t largest_of_share(const uint32_t *words, int count) {
  constexpr int at_once = 8;
  uint32_t largest = 0;
  for (int first = threadIdx.x; first < count; first += at_once * blockDim.x) {
    uint32_t word[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      const int own = first + i * (int)blockDim.x;
      word[i] = own < count ? words[own] : 0;
    }
#pragma unroll
    for (int i = 0; i < at_once; i++) largest = max(largest, word[i]);
  }
  return largest;
}

/* The largest of all lanes. */
__device__ inline uint32_t largest_of_warp(uint32_t magnitude) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_max_sync(all_lanes, magnitude);
#else
  for (int mask = WARP / 2; mask > 0; mask /= 2) magnitude = max(magnitude, shuffle_xor(magnitude, mask));
  return magnitude;
#endif
}

/* The whole tensor's largest magnitude from what launch_measure left, for the whole thread block. */
__device__ inline uint32_t whole_maximum(const uint32_t *maxima, int count) {
  __shared__ uint32_t warp_largest[WARP];
  const uint32_t largest = largest_of_warp(largest_of_share(maxima, count));
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
  if (lane == 0) warp_largest[warp] = largest;
  __syncthreads();
  return largest_of_warp(lane < warps ? warp_largest[lane] : 0);
}

/* The bits of the largest magnitude in a history, for a whole thread block of THREADS. */
template <int THREADS> __device__ inline uint32_t largest_of_history(const float *history, int64_t length) {
  uint32_t largest = 0;
  for (int64_t i = threadIdx.x; i < length; i += THREADS) {
    largest = max(largest, float_to_bits(history[i]) & 0x7FFFFFFFu);
  }
  return combine_across<THREADS>(largest, [](uint32_t a, uint32_t b) { return max(a, b); });
}

/* The largest of a group's magnitudes, for all of its threads; groups larger than a warp are synchronized together.
 * `shared` has a word for every warp and alternates between two arrays from call to call: one barrier is enough. */
__device__ inline uint32_t group_maximum(uint32_t magnitude, int group, uint32_t *shared) {
  if (group < WARP) {
    for (int mask = group / 2; mask > 0; mask /= 2) magnitude = max(magnitude, shuffle_xor(magnitude, mask));
    return magnitude;
  }
  magnitude = largest_of_warp(magnitude);
  if (group == WARP) return magnitude;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = group / WARP;
  if (lane == 0) shared[warp] = magnitude;
  __syncthreads();
  return largest_of_warp(lane < warps ? shared[(warp & -warps) + lane] : 0);
}

/* Copies `bytes` (a multiple of 16) of a map's table into shared memory, the whole thread block together. */
__device__ inline void stage_table(void *shared, const MapTable *table, int bytes) {
  const uint4 *from = reinterpret_cast<const uint4 *>(table);
  uint4 *to = static_cast<uint4 *>(shared);
  for (int i = threadIdx.x; i < bytes / (int)sizeof(uint4); i += blockDim.x) to[i] = from[i];
  __syncthreads();
}

#endif
