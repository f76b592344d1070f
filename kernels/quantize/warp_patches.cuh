/* Patches of a matrix, one to a warp, in registers, and their Hadamard transforms (core/formats/hadamard.h).
 *
 * A lane holds a 16-byte vector of columns in each of PATCH_ROWS rows; the lanes beside it and below it those that continue
 * its tiles and groups. Sums and differences of elements within a lane are its own, those of others go by shuffles. */
#ifndef FP8_WARP_PATCHES_CUH
#define FP8_WARP_PATCHES_CUH

#include "quantize/quantize.h"
#include "vectors.cuh"

namespace {

enum { BLOCK = 128, WARPS = BLOCK / WARP, ROWS = PATCH_ROWS, WORDS = 4 /* of a vector */ };

__device__ inline uint32_t &word_of(uint4 &vector, int i) {
  return i == 0 ? vector.x : i == 1 ? vector.y : i == 2 ? vector.z : vector.w;
}

/* What a lane has of its warp's patch. */
struct Place {
  int64_t row, column; /* the first */
  int across;          /* of the lanes beside one another */
};

/* Of a power of two. */
__host__ __device__ inline int exponent_of(int n) {
#ifdef __CUDA_ARCH__
  return __ffs(n) - 1;
#else
  return __builtin_ctz((unsigned)n);
#endif
}

/* `down` lanes of a warp are below one another, `beside` beside one another: powers of two. */
template <typename Scalar> struct Patches {
  int64_t rows, columns; /* of the matrix, whose rows begin at multiples of 16 bytes */
  int64_t across, below; /* patches */
  int down, beside;

  __host__ __device__ Patches(int64_t matrix_rows, int64_t matrix_columns, int lanes_down)
      : rows(matrix_rows), columns(matrix_columns), down(lanes_down) {
    const int exponent = exponent_of(lanes_down);
    beside = WARP >> exponent;
    across = (columns + beside * vector_width<Scalar> - 1) >> (exponent_of(WARP * vector_width<Scalar>) - exponent);
    below = (rows + down * ROWS - 1) >> (exponent_of(ROWS) + exponent);
  }

  __host__ __device__ int64_t count() const { return across * below; }

  __device__ Place at(int64_t patch_row, int64_t patch_column) const {
    const int lane = threadIdx.x % WARP, lane_below = lane >> exponent_of(beside);
    Place place;
    place.across = lane & (beside - 1);
    place.row = (patch_row * down + lane_below) * ROWS;
    place.column = (patch_column * beside + place.across) * vector_width<Scalar>;
    return place;
  }
  __device__ Place at(int64_t patch) const {
    const int64_t row = divide(patch, across);
    return at(row, patch - row * across);
  }

  __device__ int64_t element(const Place &place, int j) const { return (place.row + j) * columns + place.column; }
  /* How many of the lane's rows exist; 0 beyond the last column. */
  __device__ int rows_of(const Place &place) const {
    return place.column < columns ? (int)max(min(rows - place.row, (int64_t)ROWS), (int64_t)0) : 0;
  }

  /* What lies outside of the matrix is 0. */
  __device__ void load(const void *matrix, const Place &place, uint4 (&x)[ROWS]) const {
    const Scalar *from = static_cast<const Scalar *>(matrix) + element(place, 0);
    const int have = rows_of(place);
    if (have == ROWS) {
#pragma unroll
      for (int j = 0; j < ROWS; j++, from += columns) x[j] = *reinterpret_cast<const uint4 *>(from);
    } else {
#pragma unroll
      for (int j = 0; j < ROWS; j++, from += columns) {
        x[j] = make_uint4(0, 0, 0, 0);
        if (j < have) x[j] = *reinterpret_cast<const uint4 *>(from);
      }
    }
  }
};

/* --- words: one or two elements --- */

template <typename Scalar> constexpr int elements = sizeof(Scalar) == 2 ? 2 : 1;

__device__ inline void unpack_elements(uint32_t word, float, float (&value)[1]) { value[0] = float_from_bits(word); }
template <typename Scalar> __device__ inline void unpack_elements(uint32_t word, Scalar, float (&value)[2]) {
  unpack_word(word, Scalar(), value[0], value[1]);
}
__device__ inline uint32_t pack_elements(const float (&value)[1], float) { return float_to_bits(value[0]); }
template <typename Scalar> __device__ inline uint32_t pack_elements(const float (&value)[2], Scalar) {
  return pack_word(value[0], value[1], Scalar());
}

/* --- transforms of whole groups; what they leave stays as it is --- */

/* Signs of the elements of a group from number `first`, a multiple of 4, on, as bits. */
__device__ inline uint32_t signs_from(const uint32_t *negative, int first) {
  return negative[first / 32] >> first % 32;
}

/* Sums and differences of a list's elements FIRST, 2 · FIRST … END / 2 apart. */
template <int FIRST, int END, int N> __device__ inline void add_and_subtract_apart(float (&value)[N]) {
#pragma unroll
  for (int step = FIRST; step < END; step *= 2) {
#pragma unroll
    for (int k = 0; k < N; k++) {
      if (k & step) continue;
      const float a = value[k], b = value[k + step];
      value[k] = a + b;
      value[k + step] = a - b;
    }
  }
}
template <int N> __device__ inline void add_and_subtract(float (&value)[N]) { add_and_subtract_apart<1, N>(value); }

/* The same of those of lanes `step` apart, `sign` being -1 in the second ones. */
__device__ inline float sign_of_lane(int step) { return threadIdx.x & step ? -1.0f : 1.0f; }
__device__ inline float add_or_subtract(float value, int step, float sign) {
  return __fmaf_rn(value, sign, shuffle_xor(value, step));
}

template <typename Scalar>
__device__ inline void transform_down(const Patches<Scalar> &patches, const HadamardRule &rule,
                                      const uint32_t *negative, const Place &place, uint4 (&x)[ROWS]) {
  constexpr int each = elements<Scalar>;
  const float factor = hadamard_factor(rule.length);
  const int first = (int)(place.row & (rule.length - 1)), end = rule.length / ROWS * patches.beside;
  const bool whole = place.row - first + rule.length <= patches.rows;
  const uint32_t signs = signs_from(negative, first);
#pragma unroll
  for (int w = 0; w < WORDS; w++) {
    float value[each][ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
      const uint32_t sign = (signs >> j & 1) << 31;
      float of_word[each];
      unpack_elements(word_of(x[j], w) ^ (each > 1 ? sign | sign >> 16 : sign), Scalar(), of_word);
#pragma unroll
      for (int k = 0; k < each; k++) value[k][j] = of_word[k];
    }
#pragma unroll
    for (int k = 0; k < each; k++) add_and_subtract(value[k]);
    for (int step = patches.beside; step < end; step *= 2) {
      const float sign = sign_of_lane(step);
#pragma unroll
      for (int k = 0; k < each; k++) {
#pragma unroll
        for (int j = 0; j < ROWS; j++) value[k][j] = add_or_subtract(value[k][j], step, sign);
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
__device__ inline void transform_across(const Patches<Scalar> &patches, const HadamardRule &rule,
                                        const uint32_t *negative, const Place &place, uint4 (&x)[ROWS]) {
  constexpr int width = vector_width<Scalar>, each = elements<Scalar>;
  const float factor = hadamard_factor(rule.length);
  const int first = (int)(place.column & (rule.length - 1)), end = rule.length / width;
  const bool whole = place.column - first + rule.length <= patches.columns;
  const uint32_t signs = signs_from(negative, first);
#pragma unroll
  for (int j = 0; j < ROWS; j++) {
    uint4 vector = x[j];
    float value[width];
#pragma unroll
    for (int w = 0; w < WORDS; w++) {
      const uint32_t of_word = signs >> w * each;
      word_of(vector, w) ^= each > 1 ? (of_word & 1) << 15 | (of_word & 2) << 30 : of_word << 31;
    }
    unpack<Scalar>(vector, value);
    add_and_subtract(value);
    for (int step = 1; step < end; step *= 2) {
      const float sign = sign_of_lane(step);
#pragma unroll
      for (int k = 0; k < width; k++) value[k] = add_or_subtract(value[k], step, sign);
    }
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= factor;
    if (whole) x[j] = pack<Scalar>(value);
  }
}

/* Nothing, if the rule's length is 0. Patches have whole groups. `negative`: the rule's signs. */
template <typename Scalar>
__device__ inline void transform(const Patches<Scalar> &patches, const HadamardRule &rule, const uint32_t *negative,
                                 const Place &place, uint4 (&x)[ROWS]) {
  if (rule.length == 0) return;
  if (rule.down) {
    transform_down(patches, rule, negative, place, x);
  } else {
    transform_across(patches, rule, negative, place, x);
  }
}

} // namespace

#endif
