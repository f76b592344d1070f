/* Patches of a matrix that become codes with the scales of their rows and, transposed, codes with those of their columns.
 *
 * A thread block takes a patch of 128 × 128 (byte_patch.cuh). Each thread holds four runs of 16 elements, a run in each of
 * four rows. Eight neighbouring lanes have a row, which they measure by shuffles; columns are measured through shared
 * memory. */
#ifndef FP8_QUANTIZE_BOTH_WAYS_CUH
#define FP8_QUANTIZE_BOTH_WAYS_CUH

#include "byte_patch.cuh"
#include "quantize/both_ways/both_ways.h"
#include "quantize/encode.cuh"
#include "vectors.cuh"

namespace {

using namespace byte_patch;

/* Thread blocks on a multiprocessor, which what a thread holds has room for. */
template <typename Scalar> constexpr int blocks_each = sizeof(Scalar) == 2 ? 3 : 2;

template <Encoding ENCODING> constexpr DType dtype_of = ENCODING == ENCODING_E4M3 ? DTYPE_E4M3 : DTYPE_E5M2;

enum { WARPS = BLOCK / WARP, ROW_LANES = RUNS, QUAD = 4, QUADS = RUN / QUAD };

/* Where a thread's runs are. */
struct Place {
  int64_t patch_row, patch_column, column;
  int run, first_row; /* in the patch; rows are ROWS_AT_ONCE apart */
};

__device__ inline Place place_of(const BothWaysPlan &plan, int64_t patch, int64_t patches_across) {
  Place place;
  const int64_t down = divide(patch, patches_across);
  place.patch_row = down * SIDE;
  place.patch_column = (patch - down * patches_across) * SIDE;
  place.run = threadIdx.x % RUNS;
  place.first_row = threadIdx.x / RUNS;
  place.column = place.patch_column + place.run * RUN;
  return place;
}

__device__ inline int64_t row_of(const Place &place, int pass) {
  return place.patch_row + place.first_row + pass * ROWS_AT_ONCE;
}

/* Of two lanes MASK apart, the first has the first half of a list combined with that of the other one, the second the second
 * half: half as many shuffles as if both had all. */
template <int MASK, int COUNT, int N, typename T, typename Combine>
__device__ inline void combine_halves(T (&value)[N], Combine combine) {
  constexpr int half = COUNT / 2;
  const bool second = threadIdx.x & MASK;
#pragma unroll
  for (int i = 0; i < half; i++) {
    const T other = second ? value[i] : value[i + half], own = second ? value[i + half] : value[i];
    value[i] = combine(own, shuffle_xor(other, MASK));
  }
}

/* A thread's runs, 0 outside of the matrix. */
template <typename Scalar> struct Runs {
  static constexpr int vectors = sizeof(Scalar);               /* of a run */
  static constexpr int words = RUN * sizeof(Scalar) / 4;       /* of a run */
  static constexpr int word_columns = 4 / (int)sizeof(Scalar); /* of a word */
  uint4 raw[PASSES][vectors];

  __device__ void load(const BothWaysPlan &plan, const Place &place) {
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      const int64_t row = row_of(place, pass);
      const bool inside = row < plan.rows && place.column < plan.columns;
      const uint4 *from =
          reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + row * plan.columns + place.column);
#pragma unroll
      for (int v = 0; v < vectors; v++) raw[pass][v] = inside ? from[v] : make_uint4(0, 0, 0, 0);
    }
  }

  /* Elements 4 · quad and on of a run, as float32. */
  __device__ void unpack_quad(int pass, int quad, float (&value)[QUAD]) const {
    if constexpr (sizeof(Scalar) == 4) {
      unpack<Scalar>(raw[pass][quad], value);
    } else {
      const uint4 &vector = raw[pass][quad / 2];
      unpack_word(quad % 2 ? vector.z : vector.x, Scalar(), value[0], value[1]);
      unpack_word(quad % 2 ? vector.w : vector.y, Scalar(), value[2], value[3]);
    }
  }

  /* The largest magnitude of a thread's elements in a row, as a word of the dtype's bits. */
  __device__ uint32_t word_of_row(int pass) const {
    uint32_t largest = 0;
#pragma unroll
    for (int v = 0; v < vectors; v++) largest = raise<Scalar>(largest, raw[pass][v]);
    return largest;
  }

  /* The same of its elements in a word's columns. */
  __device__ uint32_t word_of_columns(int word) const {
    uint32_t largest = 0;
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      const uint4 &vector = raw[pass][word / 4];
      largest = raise<Scalar>(largest, word % 4 == 0   ? vector.x
                                       : word % 4 == 1 ? vector.y
                                       : word % 4 == 2 ? vector.z
                                                       : vector.w);
    }
    return largest;
  }

  /* The bits of the largest magnitude of a row, of which eight lanes have a run each: that of pass place.run % PASSES. */
  __device__ uint32_t row_magnitude() const {
    uint32_t largest[PASSES];
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) largest[pass] = word_of_row(pass);
    const auto larger = [](uint32_t a, uint32_t b) { return raise<Scalar>(a, b); };
    combine_halves<PASSES / 2, PASSES>(largest, larger);
    combine_halves<PASSES / 4, PASSES / 2>(largest, larger);
    return magnitude_bits(larger(largest[0], shuffle_xor(largest[0], PASSES)), Scalar());
  }
};

/* What the threads of a block tell one another. */
template <typename Scalar> struct Board {
  uint32_t column_words[WARPS][RUNS * Runs<Scalar>::words];
  alignas(16) float sums[WARPS][SIDE];
};

/* The largest magnitudes of columns, and their sums, by warp; complete for all threads after the barrier at the end. Each of
 * the four lanes that have a run of a warp's rows ends with a quarter of it. */
template <typename Scalar>
__device__ inline void post_columns(const Runs<Scalar> &runs, const Place &place, bool summing, Board<Scalar> &board) {
  constexpr int words = Runs<Scalar>::words;
  const int warp = threadIdx.x / WARP;
  const bool second = threadIdx.x & ROW_LANES, third = threadIdx.x & 2 * ROW_LANES;
  uint32_t largest[words];
#pragma unroll
  for (int word = 0; word < words; word++) largest[word] = runs.word_of_columns(word);
  const auto larger = [](uint32_t a, uint32_t b) { return raise<Scalar>(a, b); };
  combine_halves<ROW_LANES, words>(largest, larger);
  combine_halves<2 * ROW_LANES, words / 2>(largest, larger);
  uint32_t *to = &board.column_words[warp][place.run * words + second * (words / 2) + third * (words / 4)];
#pragma unroll
  for (int i = 0; i < words / 4; i++) to[i] = largest[i];
  if (summing) {
    float sum[RUN] = {};
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
#pragma unroll
      for (int quad = 0; quad < QUADS; quad++) {
        float value[QUAD];
        runs.unpack_quad(pass, quad, value);
#pragma unroll
        for (int k = 0; k < QUAD; k++) sum[quad * QUAD + k] += value[k];
      }
    }
    const auto add = [](float a, float b) { return a + b; };
    combine_halves<ROW_LANES, RUN>(sum, add);
    combine_halves<2 * ROW_LANES, RUN / 2>(sum, add);
    *reinterpret_cast<float4 *>(&board.sums[warp][place.run * RUN + second * (RUN / 2) + third * (RUN / 4)]) =
        make_float4(sum[0], sum[1], sum[2], sum[3]);
  }
  __syncthreads();
}

/* The bits of the largest magnitude in a column of the patch. */
template <typename Scalar> __device__ inline uint32_t column_magnitude(const Board<Scalar> &board, int column) {
  const int word = column / Runs<Scalar>::word_columns;
  uint32_t largest = 0;
#pragma unroll
  for (int warp = 0; warp < WARPS; warp++) largest = raise<Scalar>(largest, board.column_words[warp][word]);
  if (sizeof(Scalar) == 2) largest = column % 2 ? largest >> 16 : largest & 0xFFFFu;
  return magnitude_bits(largest, Scalar());
}

/* By the threads of the first half of the block. */
template <typename Scalar>
__device__ inline void write_sums(const BothWaysPlan &plan, const Place &place, const Board<Scalar> &board) {
  const int64_t column = place.patch_column + threadIdx.x;
  if (threadIdx.x >= SIDE || column >= plan.columns) return;
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < WARPS; warp++) sum += board.sums[warp][threadIdx.x];
  plan.partials[place.patch_row / SIDE * plan.columns + column] = sum;
}

/* --- encoding --- */

/* The scales of the patch's columns. Four floats are left out after every 16, so that the runs of eight lanes lie in
 * different banks. */
struct ColumnScales {
  enum { PITCH = RUN + 4 };
  float4 inverse[RUNS * PITCH / QUAD], scale[RUNS * PITCH / QUAD];

  static __device__ int at(int run, int quad) { return run * (PITCH / QUAD) + quad; }
  static __device__ int of(int column) { return column / RUN * PITCH + column % RUN; }
  __device__ float scale_of(int column) const { return reinterpret_cast<const float *>(scale)[of(column)]; }
  __device__ void set(int column, float value, float its_inverse) {
    reinterpret_cast<float *>(scale)[of(column)] = value;
    reinterpret_cast<float *>(inverse)[of(column)] = its_inverse;
  }
};

/* What a row's elements are multiplied with. */
struct RowScale {
  float scale, inverse;
};

/* The scales of a thread's rows, of which one lane has each: that of pass place.run % PASSES. */
__device__ inline void share_row_scales(float scale, RowScale (&rows)[PASSES]) {
  const float inverse = 1.0f / scale;
  const int first = threadIdx.x % WARP / ROW_LANES * ROW_LANES;
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    rows[pass].scale = __shfl_sync(all_lanes, scale, first + pass);
    rows[pass].inverse = __shfl_sync(all_lanes, inverse, first + pass);
  }
}

/* Whether all that a code takes is a product with the inverse of its scale. */
__device__ inline bool is_plain(float scale, float inverse) { return !scale_is_empty(scale) && !isinf(inverse); }

template <Encoding ENCODING>
__device__ inline uint32_t encode_quad(const float (&value)[QUAD], const float (&inverse)[QUAD]) {
  float scaled[QUAD];
#pragma unroll
  for (int k = 0; k < QUAD; k++) scaled[k] = value[k] * inverse[k];
  NoStage stage;
  const Encoder<ENCODING> encoder(stage, nullptr);
  uint32_t word[4];
  encoder.encode(scaled, word);
  return word[0];
}

/* Any code. */
template <Encoding ENCODING> __device__ inline uint32_t encode_slowly(float value, float scale) {
  const BlockScaling scaling = block_scaling(scale, 1.0f / scale, false);
  if (scaling.broken) return 0x7F; /* NaN in both formats */
  const float scaled = scaled_element(value, &scaling);
  return ENCODING == ENCODING_E4M3 ? e4m3_from_float(scaled, true) : e5m2_from_float(scaled, true);
}

/* The codes of a run of x, which is read again, with the scale that scale_of gives each of its elements. */
template <typename Scalar, Encoding ENCODING, typename ScaleOf>
__device__ inline uint4 encode_run_slowly(const void *x, int64_t at, ScaleOf scale_of) {
  uint32_t word[QUADS];
#pragma unroll
  for (int quad = 0; quad < QUADS; quad++) {
    word[quad] = 0;
#pragma unroll 1
    for (int k = 0; k < QUAD; k++) {
      const int i = quad * QUAD + k;
      word[quad] |= encode_slowly<ENCODING>(to_float(static_cast<const Scalar *>(x)[at + i]), scale_of(i)) << 8 * k;
    }
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

/* A thread's run of a row that exists. */
template <typename Scalar, Encoding ENCODING>
__device__ inline uint4 encode_row(const BothWaysPlan &plan, const Runs<Scalar> &runs, int pass, int64_t at,
                                   RowScale row) {
  if (!is_plain(row.scale, row.inverse)) {
    return encode_run_slowly<Scalar, ENCODING>(plan.x, at, [&](int) { return row.scale; });
  }
  const float inverse[QUAD] = {row.inverse, row.inverse, row.inverse, row.inverse};
  uint32_t word[QUADS];
#pragma unroll
  for (int quad = 0; quad < QUADS; quad++) {
    float value[QUAD];
    runs.unpack_quad(pass, quad, value);
    word[quad] = encode_quad<ENCODING>(value, inverse);
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

/* A thread's runs with the scales of their columns, into the patch that is written transposed. */
template <typename Scalar, Encoding ENCODING>
__device__ inline void encode_columns(const Runs<Scalar> &runs, const Place &place, const ColumnScales &columns,
                                      uint4 *chunks) {
  uint32_t word[PASSES][QUADS];
#pragma unroll
  for (int quad = 0; quad < QUADS; quad++) {
    const float4 four = columns.inverse[ColumnScales::at(place.run, quad)];
    const float inverse[QUAD] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
      float value[QUAD];
      runs.unpack_quad(pass, quad, value);
      word[pass][quad] = encode_quad<ENCODING>(value, inverse);
    }
  }
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    chunks[chunk_at(place.first_row + pass * ROWS_AT_ONCE, place.run)] =
        make_uint4(word[pass][0], word[pass][1], word[pass][2], word[pass][3]);
  }
}

template <typename Scalar, Encoding ENCODING>
__device__ inline void encode_columns_slowly(const BothWaysPlan &plan, const Place &place, const ColumnScales &columns,
                                             uint4 *chunks) {
#pragma unroll 1
  for (int pass = 0; pass < PASSES; pass++) {
    const int64_t row = row_of(place, pass);
    if (row >= plan.rows || place.column >= plan.columns) continue;
    chunks[chunk_at(place.first_row + pass * ROWS_AT_ONCE, place.run)] = encode_run_slowly<Scalar, ENCODING>(
        plan.x, row * plan.columns + place.column, [&](int i) { return columns.scale_of(place.run * RUN + i); });
  }
}

/* Codes of rows, and their scales by the patches that are the first of them all, or of a run. `magnitude`: that of the row of
 * pass place.run % PASSES. */
template <typename Scalar, Encoding ENCODING>
__device__ inline void write_rows(const BothWaysPlan &plan, const Place &place, const Runs<Scalar> &runs,
                                  uint32_t magnitude, bool by_runs) {
  RowScale rows[PASSES];
  const float scale = scale_of_magnitude(magnitude, dtype_of<ENCODING>, plan.row_rounding);
  const int64_t own = row_of(place, place.run);
  if (place.run < PASSES && own < plan.rows && (by_runs || place.patch_column == 0)) {
    plan.row_scale[place.patch_column / SIDE * plan.rows + own] = scale;
  }
  share_row_scales(scale, rows);
#pragma unroll
  for (int pass = 0; pass < PASSES; pass++) {
    const int64_t row = row_of(place, pass), at = row * plan.columns + place.column;
    if (row >= plan.rows || place.column >= plan.columns) continue;
    store_vector(reinterpret_cast<uint4 *>(plan.codes + at),
                 encode_row<Scalar, ENCODING>(plan, runs, pass, at, rows[pass]));
  }
}

/* The scale of a column that a thread of the first half of the block has, likewise; whether it is plain. */
template <Encoding ENCODING>
__device__ inline bool set_column(const BothWaysPlan &plan, const Place &place, uint32_t magnitude, bool by_runs,
                                  ColumnScales &columns) {
  const float scale = scale_of_magnitude(magnitude, dtype_of<ENCODING>, plan.column_rounding), inverse = 1.0f / scale;
  if (by_runs || place.patch_row == 0) {
    plan.column_scale[place.patch_row / SIDE * plan.columns + place.patch_column + threadIdx.x] = scale;
  }
  columns.set(threadIdx.x, scale, inverse);
  return is_plain(scale, inverse);
}

/* Codes of columns, in the patch that is written transposed. The whole block together; `plain` is that of a thread's column,
 * if it has one. */
template <typename Scalar, Encoding ENCODING>
__device__ inline void encode_patch(const BothWaysPlan &plan, const Place &place, const Runs<Scalar> &runs, bool plain,
                                    const ColumnScales &columns, uint4 *chunks) {
  if (__syncthreads_and(plain)) {
    encode_columns<Scalar, ENCODING>(runs, place, columns, chunks);
  } else {
    encode_columns_slowly<Scalar, ENCODING>(plan, place, columns, chunks);
  }
}

__device__ inline void write_patch(const BothWaysPlan &plan, const Place &place, const uint4 *chunks) {
  write_columns(chunks, place.patch_row, place.patch_column, plan.rows, plan.columns, plan.transposed, plan.rows);
}

/* --- grids --- */

__host__ __device__ inline int64_t patches_across(const BothWaysPlan &plan) {
  return divide_up(plan.columns, (int64_t)SIDE);
}
__host__ __device__ inline int64_t patch_count(const BothWaysPlan &plan) {
  return divide_up(plan.rows, (int64_t)SIDE) * patches_across(plan);
}

} // namespace

#endif
