/* Quantization in small blocks, of x or of its Hadamard transform: in runs of a row or of a column, or in small tiles; by
 * numbers' exponents, without a table. One read of x serves two ways, such as those of the products that sum over its
 * columns and over its rows.
 *
 * A warp has a patch of the matrix to itself: a lane holds a 16-byte vector of columns in each of WAYS_ROWS rows, and lanes
 * beside it and below it those that continue its tiles and groups. Largest magnitudes and transforms go by shuffles; nothing
 * needs shared memory. A scale above those of blocks takes a pass before, which leaves largest magnitudes in memory. */
#include "quantize/encode.cuh"
#include "quantize/ways.h"
#include "vectors.cuh"

namespace {

enum { BLOCK = 256, ROWS = WAYS_ROWS, WORDS = 4 /* of a vector */ };

__device__ inline uint32_t &word_of(uint4 &vector, int i) {
  return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
}

/* --- patches --- */

/* What a lane has of its warp's patch. */
struct Place {
  int beside;          /* lanes side by side */
  int across, below;   /* of this lane in the patch */
  int64_t row, column; /* the first of this lane */
};

template <typename Scalar> struct Patches {
  int64_t across, count;
  int beside;
  __host__ __device__ explicit Patches(const WaysPlan &plan) {
    beside = WARP / plan.down;
    across = divide_up(plan.columns, (int64_t)beside * vector_width<Scalar>);
    count = across * divide_up(plan.rows, (int64_t)plan.down * ROWS);
  }
  __device__ Place at(int64_t patch, int down) const {
    const int lane = threadIdx.x % WARP;
    const int64_t row = divide(patch, across);
    Place place;
    place.beside = beside;
    place.below = lane / beside;
    place.across = lane - place.below * beside;
    place.row = (row * down + place.below) * ROWS;
    place.column = ((patch - row * across) * beside + place.across) * vector_width<Scalar>;
    return place;
  }
};

/* What lies outside of the matrix is 0. */
template <typename Scalar> __device__ inline void load(const WaysPlan &plan, const Place &place, uint4 (&x)[ROWS]) {
  const Scalar *from = static_cast<const Scalar *>(plan.x) + place.row * plan.columns + place.column;
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    x[j] = make_uint4(0, 0, 0, 0);
    if (place.row + j < plan.rows && place.column < plan.columns) {
      x[j] = *reinterpret_cast<const uint4 *>(from + j * plan.columns);
    }
  }
}

/* --- Hadamard transforms, of whole groups --- */

template <typename Scalar> constexpr int elements = sizeof(Scalar) == 2 ? 2 : 1; /* of a word */

__device__ inline void unpack_elements(uint32_t word, float, float (&value)[1]) { value[0] = float_from_bits(word); }
template <typename Scalar> __device__ inline void unpack_elements(uint32_t word, Scalar, float (&value)[2]) {
  unpack_word(word, Scalar(), value[0], value[1]);
}
__device__ inline uint32_t pack_elements(const float (&value)[1], float) { return float_to_bits(value[0]); }
template <typename Scalar> __device__ inline uint32_t pack_elements(const float (&value)[2], Scalar) {
  return pack_word(value[0], value[1], Scalar());
}

/* The sign bits of a word's elements, the first of which has number i in its group. */
template <typename Scalar> __device__ inline uint32_t signs_of_word(const HadamardRule &rule, int i, bool down) {
  const uint32_t bits = rule.negative[i / 32] >> i % 32;
  if (sizeof(Scalar) == 4) return bits << 31;
  return (bits & 1) << 15 | (down ? bits & 1 : bits >> 1 & 1) << 31;
}

/* Sums and differences of a list's elements 1, 2, 4 … apart. */
template <int N> __device__ inline void add_and_subtract(float (&value)[N]) {
#pragma unroll
  for (int step = 1; step < N; step *= 2) {
#pragma unroll
    for (int k = 0; k < N; k++) {
      if (k & step) continue;
      const float a = value[k], b = value[k + step];
      value[k] = a + b;
      value[k + step] = a - b;
    }
  }
}

__device__ inline float add_or_subtract(float value, int lane, int step) {
  const float other = shuffle_xor(value, step);
  return lane & step ? other - value : value + other;
}

template <typename Scalar>
__device__ inline void transform_down(const WaysPlan &plan, const HadamardRule &rule, const Place &place,
                                      uint4 (&x)[ROWS]) {
  constexpr int each = elements<Scalar>;
  const float factor = hadamard_factor(rule.length);
  const int lane = threadIdx.x % WARP, first = (int)(place.row & (rule.length - 1));
  const bool whole = place.row - first + rule.length <= plan.rows;
  const int end = rule.length / ROWS * place.beside;
#pragma unroll
  for (int w = 0; w < WORDS; w++) {
    float value[each][ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      float of_word[each];
      unpack_elements(word_of(x[j], w) ^ signs_of_word<Scalar>(rule, first + j, true), Scalar(), of_word);
#pragma unroll
      for (int k = 0; k < each; k++) value[k][j] = of_word[k];
    }
#pragma unroll
    for (int k = 0; k < each; k++) add_and_subtract(value[k]);
    for (int step = place.beside; step < end; step *= 2) {
#pragma unroll
      for (int k = 0; k < each; k++) {
#pragma unroll
        for (int j = 0; j < ROWS; j++) value[k][j] = add_or_subtract(value[k][j], lane, step);
      }
    }
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      float of_word[each];
#pragma unroll
      for (int k = 0; k < each; k++) of_word[k] = value[k][j] * factor;
      if (whole) word_of(x[j], w) = pack_elements(of_word, Scalar());
    }
  }
}

template <typename Scalar>
__device__ inline void transform_across(const WaysPlan &plan, const HadamardRule &rule, const Place &place,
                                        uint4 (&x)[ROWS]) {
  constexpr int width = vector_width<Scalar>;
  const float factor = hadamard_factor(rule.length);
  const int lane = threadIdx.x % WARP, first = (int)(place.column & (rule.length - 1));
  const bool whole = place.column - first + rule.length <= plan.columns;
  const int end = rule.length / width;
  uint32_t signs[WORDS];
#pragma unroll
  for (int w = 0; w < WORDS; w++) signs[w] = signs_of_word<Scalar>(rule, first + w * elements<Scalar>, false);
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    uint4 vector = x[j];
    float value[width];
#pragma unroll
    for (int w = 0; w < WORDS; w++) word_of(vector, w) ^= signs[w];
    unpack<Scalar>(vector, value);
    add_and_subtract(value);
    for (int step = 1; step < end; step *= 2) {
#pragma unroll
      for (int k = 0; k < width; k++) value[k] = add_or_subtract(value[k], lane, step);
    }
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= factor;
    if (whole) x[j] = pack<Scalar>(value);
  }
}

template <typename Scalar>
__device__ inline void transform(const WaysPlan &plan, const HadamardRule &rule, const Place &place, uint4 (&x)[ROWS]) {
  if (rule.length == 0) return;
  if (rule.down) {
    transform_down<Scalar>(plan, rule, place, x);
  } else {
    transform_across<Scalar>(plan, rule, place, x);
  }
}

/* --- scales --- */

/* What a number is multiplied with before it is rounded, and after. */
struct Factors {
  float inverse, scale;
  bool rare; /* numbers count as 0, or are divided by the scale */
};

__device__ inline Factors factors_of(const QuantizePlan &plan, const UpperScale &upper, uint32_t magnitude) {
  const BlockScaling scaling = plan.rule.rounding == SCALE_E4M3
                                   ? scaling_below(scale_below(magnitude, &upper), &upper)
                                   : scaling_of<ENCODING_E4M3>(plan, scale_of(plan, magnitude));
  return {scaling.inverse, scaling.scale, scaling.empty || scaling.divide};
}

/* --- rounding --- */

template <bool STOCHASTIC> struct Rounding {
  FormatGrid grid;
  float limit;
  uint32_t sign; /* the bit that a 0 keeps */
  bool cast;     /* stochastic rounding of float8 types, which have their own */
  DType format;

  __device__ explicit Rounding(const QuantizePlan &plan)
      : grid(plan.grid), limit(plan.rule.limit), sign(plan.map ? 0 : 0x80000000u), cast(!plan.map),
        format(plan.format) {}

  /* Of a number without scale. */
  __device__ float operator()(float value, uint32_t random) const {
    value = fminf(fmaxf(value, -limit), limit);
    if (!STOCHASTIC) {
      const float rounded = grid_nearest(&grid, value);
      return float_from_bits(float_to_bits(rounded) | (float_to_bits(value) & sign));
    }
    if (!cast) return grid_stochastic(&grid, value, random);
    return format == DTYPE_E4M3 ? e4m3_to_float(e4m3_stochastic(value, random))
                                : e5m2_to_float(e5m2_stochastic(value, random));
  }
};

/* Of a rounded number. */
__device__ inline uint8_t code_of_rounded(const QuantizePlan &plan, float value, bool broken) {
  if (plan.map) return grid_code(&plan.grid, value);
  if (broken) return 0x7F; /* NaN in both formats */
  return plan.format == DTYPE_E4M3 ? e4m3_from_float(value, true) : e5m2_from_float(value, true);
}

template <typename Scalar, int WIDTH>
__device__ inline void store_vector(const QuantizePlan &plan, int64_t at, const float (&value)[WIDTH]) {
  if (sizeof(Scalar) == 2 || plan.values_dtype == DTYPE_F32) {
    *reinterpret_cast<uint4 *>(static_cast<Scalar *>(plan.values) + at) = pack<Scalar>(value);
  } else {
    store_values(plan, at, value);
  }
}

/* A vector, all of one scale or with one for each column. */
template <typename Scalar, bool STOCHASTIC, int SCALES>
__device__ inline void quantize_vector(const QuantizePlan &plan, const Factors (&factors)[SCALES], const uint4 &raw,
                                       int64_t at) {
  constexpr int width = vector_width<Scalar>;
  const Rounding<STOCHASTIC> rounding(plan);
  float value[width];
  uint32_t random[width];
  unpack<Scalar>(raw, value);
  if (STOCHASTIC) random_words(plan.random, at, random);
  bool rare = false;
#pragma unroll
  for (int s = 0; s < SCALES; s++) rare = rare || factors[s].rare;
  if (rare) {
#pragma unroll
    for (int k = 0; k < width; k++) {
      const Factors &own = factors[SCALES > 1 ? k : 0];
      value[k] = !own.rare ? value[k] * own.inverse : scale_is_empty(own.scale) ? 0.0f : value[k] / own.scale;
    }
  } else {
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= factors[SCALES > 1 ? k : 0].inverse;
  }
#pragma unroll
  for (int k = 0; k < width; k++) value[k] = rounding(value[k], STOCHASTIC ? random[k] : 0);
  if (plan.codes) {
    Packed<uint8_t, width> codes;
#pragma unroll
    for (int k = 0; k < width; k++) {
      const Factors &own = factors[SCALES > 1 ? k : 0];
      codes.element[k] = code_of_rounded(plan, value[k], own.scale != own.scale);
    }
    *reinterpret_cast<Packed<uint8_t, width> *>(plan.codes + at) = codes;
  }
  if (!plan.values) return;
#pragma unroll
  for (int k = 0; k < width; k++) value[k] *= factors[SCALES > 1 ? k : 0].scale;
  store_vector<Scalar>(plan, at, value);
}

/* --- one way of a patch --- */

__device__ inline uint32_t largest_of(uint32_t magnitude, int first, int end) {
  for (int step = first; step < end; step *= 2) magnitude = max(magnitude, shuffle_xor(magnitude, step));
  return magnitude;
}

/* Scales of rows' runs, or of tiles. */
template <typename Scalar, bool STOCHASTIC>
__device__ inline void quantize_tiles(const WaysPlan &plan, const WayPlan &way, const UpperScale &upper,
                                      const Place &place, const uint4 (&x)[ROWS]) {
  const bool runs = way.tile_rows == 1;
  const int segment = way.tile_columns / vector_width<Scalar>;
  uint32_t whole = 0;
  if (!runs) {
#pragma unroll
    for (int j = 0; j < ROWS; j++) whole = raise<Scalar>(whole, x[j]);
    whole = largest_of(magnitude_bits(whole, Scalar()), 1, segment);
    whole = largest_of(whole, place.beside, place.beside * way.tile_rows / ROWS);
  }
  Factors factors[1];
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    if (j == 0 || runs) {
      uint32_t magnitude = whole;
      if (runs) magnitude = largest_of(magnitude_bits(raise<Scalar>(0, x[j]), Scalar()), 1, segment);
      factors[0] = factors_of(way.quantize, upper, magnitude);
      const bool first = place.across % segment == 0 && (runs || place.row % way.tile_rows == 0);
      if (way.quantize.scale && first && place.row + j < plan.rows && place.column < plan.columns) {
        const int64_t tile_row = divide(place.row + j, way.tile_rows);
        way.quantize.scale[tile_row * way.tiles_across + divide(place.column, way.tile_columns)] = factors[0].scale;
      }
    }
    if (place.row + j >= plan.rows || place.column >= plan.columns) continue;
    quantize_vector<Scalar, STOCHASTIC>(way.quantize, factors, x[j], (place.row + j) * plan.columns + place.column);
  }
}

/* Scales of columns' runs. */
template <typename Scalar, bool STOCHASTIC>
__device__ inline void quantize_columns(const WaysPlan &plan, const WayPlan &way, const UpperScale &upper,
                                        const Place &place, const uint4 (&x)[ROWS]) {
  constexpr int width = vector_width<Scalar>, each = elements<Scalar>;
  Factors factors[width];
#pragma unroll
  for (int w = 0; w < WORDS; w++) {
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      uint4 vector = x[j];
      largest = raise<Scalar>(largest, word_of(vector, w));
    }
    const int end = place.beside * way.tile_rows / ROWS;
    for (int step = place.beside; step < end; step *= 2) largest = raise<Scalar>(largest, shuffle_xor(largest, step));
    float magnitude[each];
    unpack_elements(largest, Scalar(), magnitude);
#pragma unroll
    for (int k = 0; k < each; k++) {
      factors[w * each + k] = factors_of(way.quantize, upper, float_to_bits(magnitude[k]));
    }
  }
  if (place.row >= plan.rows || place.column >= plan.columns) return;
  if (way.quantize.scale && place.row % way.tile_rows == 0) {
    float *scale = way.quantize.scale + divide(place.row, way.tile_rows) * way.tiles_across + place.column;
#pragma unroll
    for (int k = 0; k < width; k++) scale[k] = factors[k].scale;
  }
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    if (place.row + j >= plan.rows) break;
    quantize_vector<Scalar, STOCHASTIC>(way.quantize, factors, x[j], (place.row + j) * plan.columns + place.column);
  }
}

/* --- kernels --- */

/* Of what launch_measure_ways left, for the whole thread block. */
__device__ inline UpperScale upper_of_way(const WayPlan &way) {
  if (!way.maxima) return upper_of(way.quantize, 0);
  const uint32_t magnitude = whole_maximum(way.maxima, way.maxima_count);
  return upper_scale(&way.quantize.rule, float_from_bits(magnitude < infinity_bits ? magnitude : nan_bits));
}

template <typename Scalar, bool STOCHASTIC>
__global__ void __launch_bounds__(BLOCK, 2) quantize_ways_kernel(const __grid_constant__ WaysPlan plan) {
  __shared__ UpperScale upper[WAYS_MOST];
  bool measured = false;
  for (int i = 0; i < plan.count; i++) {
    const UpperScale own = upper_of_way(plan.way[i]);
    measured = measured || plan.way[i].maxima;
    __syncthreads(); /* before whole_maximum writes its words again */
    if (threadIdx.x == 0) upper[i] = own;
  }
  __syncthreads();
  const Patches<Scalar> patches(plan);
  const int64_t step = (int64_t)gridDim.x * (BLOCK / WARP);
  for (int64_t i = (int64_t)blockIdx.x * (BLOCK / WARP) + threadIdx.x / WARP; i < patches.count; i += step) {
    /* After a pass over the whole tensor its end is still in the cache. */
    const Place place = patches.at(measured ? patches.count - 1 - i : i, plan.down);
    /* The second time a patch comes from the first-level cache, which costs less than as many registers. */
#pragma unroll 1
    for (int w = 0; w < plan.count; w++) {
      const WayPlan &way = plan.way[w];
      uint4 x[ROWS];
      load<Scalar>(plan, place, x);
      transform<Scalar>(plan, way.hadamard, place, x);
      if (way.tile_columns == 1) {
        quantize_columns<Scalar, STOCHASTIC>(plan, way, upper[w], place, x);
      } else {
        quantize_tiles<Scalar, STOCHASTIC>(plan, way, upper[w], place, x);
      }
    }
  }
}

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK, 2) measure_ways_kernel(const __grid_constant__ WaysPlan plan) {
  uint32_t largest[WAYS_MOST] = {};
  const Patches<Scalar> patches(plan);
  const int64_t step = (int64_t)gridDim.x * (BLOCK / WARP);
  for (int64_t i = (int64_t)blockIdx.x * (BLOCK / WARP) + threadIdx.x / WARP; i < patches.count; i += step) {
    const Place place = patches.at(i, plan.down);
#pragma unroll
    for (int w = 0; w < WAYS_MOST; w++) {
      if (w >= plan.count || !plan.way[w].measures) continue;
      uint4 x[ROWS];
      load<Scalar>(plan, place, x);
      transform<Scalar>(plan, plan.way[w].hadamard, place, x);
#pragma unroll
      for (int j = 0; j < ROWS; j++) largest[w] = raise<Scalar>(largest[w], x[j]);
    }
  }
#pragma unroll
  for (int w = 0; w < WAYS_MOST; w++) {
    if (w < plan.count && plan.way[w].measures) {
      write_maximum<BLOCK>(plan.way[w].maxima, magnitude_bits(largest[w], Scalar()));
    }
  }
}

/* --- launching --- */

template <typename Scalar> int64_t thread_blocks(const WaysPlan &plan) {
  return divide_up(Patches<Scalar>(plan).count, (int64_t)(BLOCK / WARP));
}

template <typename Scalar, bool STOCHASTIC> cudaError_t run(Launch launch, const WaysPlan &plan) {
  const auto kernel = quantize_ways_kernel<Scalar, STOCHASTIC>;
  const int grid = resident_grid((const void *)kernel, launch, BLOCK, thread_blocks<Scalar>(plan));
  kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_quantize_ways(Launch launch, const WaysPlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return plan->way[0].quantize.stochastic ? run<Scalar, true>(launch, *plan) : run<Scalar, false>(launch, *plan);
  });
}

extern "C" int measure_ways_grid(Launch launch, const WaysPlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return resident_grid((const void *)measure_ways_kernel<Scalar>, launch, BLOCK, thread_blocks<Scalar>(*plan));
  });
}

extern "C" cudaError_t launch_measure_ways(Launch launch, const WaysPlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) {
    measure_ways_kernel<decltype(scalar)><<<measure_ways_grid(launch, plan), BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  });
}
