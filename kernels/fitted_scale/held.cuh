/* Elements of blocks in the registers of threads, and how these are added up: core/formats/fit.h. */
#ifndef FP8_FITTED_SCALE_HELD_CUH
#define FP8_FITTED_SCALE_HELD_CUH

#include "fitted_scale/fitted_scale.h"
#include "vectors.cuh"

namespace {

/* A block as rows of neighbouring elements. */
struct Tile {
  int64_t first, step; /* of rows */
  int64_t width, count;
};

__device__ inline Tile tile_at(const FittedPlan &plan, int64_t block) {
  const QuantizePlan &quantize = plan.quantize;
  Tile tile;
  if (plan.tile_rows == 0) {
    tile.first = block * quantize.blocksize;
    tile.width = tile.count = plan.whole ? quantize.blocksize : min(quantize.blocksize, quantize.count - tile.first);
    tile.step = 0;
    return tile;
  }
  const int64_t down = divide(block, plan.tiles_across), across = block - down * plan.tiles_across;
  const int64_t row = down * plan.tile_rows, column = across * plan.tile_columns;
  tile.first = row * plan.columns + column;
  tile.step = plan.columns;
  tile.width = min(plan.tile_columns, plan.columns - column);
  tile.count = tile.width * min(plan.tile_rows, plan.rows - row);
  return tile;
}

/* Of element i, the first of an eight whose elements are neighbours. */
__device__ inline int64_t offset_in(const Tile &tile, int64_t i) {
  const int64_t row = divide(i, tile.width);
  return row * tile.step + (i - row * tile.width);
}

/* --- elements: magnitudes where the format has a grid --- */

/* So many eights of a block, with 0 after its last element. */
template <int EIGHTS> struct Held {
  float x[EIGHTS][FIT_EIGHT];
  uint32_t largest; /* of |x|, as bits */

  __device__ void multiply(float factor) {
#pragma unroll
    for (int v = 0; v < EIGHTS; v++) {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) x[v][k] *= factor;
    }
  }
};

/* The bits of the largest magnitude, the parts of a vector becoming numbers. */
template <typename Scalar, bool GRID> __device__ inline uint32_t take(uint4 raw, uint32_t largest, float *x) {
  constexpr int width = vector_width<Scalar>;
  float value[width];
  largest = raise<Scalar>(largest, raw);
  if (GRID) {
    constexpr uint32_t magnitudes = sizeof(Scalar) == 2 ? 0x7FFF7FFFu : 0x7FFFFFFFu;
    raw = make_uint4(raw.x & magnitudes, raw.y & magnitudes, raw.z & magnitudes, raw.w & magnitudes);
  }
  unpack<Scalar>(raw, value);
#pragma unroll
  for (int k = 0; k < width; k++) x[k] = value[k];
  return largest;
}

/* Eights that begin `begin`, begin + apart, … elements after `start` in a tile, of which `count` exist from there on. */
template <typename Scalar, bool GRID, int EIGHTS>
__device__ inline void load(const FittedPlan &plan, const Tile &tile, int64_t start, int begin, int apart, int count,
                            Held<EIGHTS> &held) {
  const Scalar *from = static_cast<const Scalar *>(plan.quantize.x) + tile.first;
  uint32_t largest = 0;
  if (plan.vectors) {
    constexpr int width = vector_width<Scalar>, vectors = FIT_EIGHT / width;
    uint4 raw[EIGHTS][vectors];
    const auto load_eight = [&](int v, const Scalar *at) {
#pragma unroll
      for (int i = 0; i < vectors; i++) {
        raw[v][i] = make_uint4(0, 0, 0, 0);
        if (begin + v * apart < count) raw[v][i] = reinterpret_cast<const uint4 *>(at)[i];
      }
    };
    if (plan.tile_rows == 0) {
      from += start + begin;
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + v * apart);
    } else if (const int64_t rows = divide(apart, tile.width); rows * tile.width == apart) {
      from += offset_in(tile, start + begin);
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + v * (rows * tile.step));
    } else {
#pragma unroll
      for (int v = 0; v < EIGHTS; v++) load_eight(v, from + offset_in(tile, start + begin + v * apart));
    }
#pragma unroll
    for (int v = 0; v < EIGHTS; v++) {
#pragma unroll
      for (int i = 0; i < vectors; i++) {
        largest = take<Scalar, GRID>(raw[v][i], largest, held.x[v] + i * width);
      }
    }
    held.largest = magnitude_bits(largest, Scalar());
    return;
  }
#pragma unroll
  for (int v = 0; v < EIGHTS; v++) {
    const int i = begin + v * apart;
    const bool narrow = tile.width == 1;
    const int64_t row = tile.step == 0 ? 0 : narrow ? start + i : divide(start + i, tile.width);
    int64_t column = start + i - row * tile.width;
    const Scalar *next = from + row * tile.step + column;
    Scalar element[FIT_EIGHT] = {};
    if (narrow && tile.step != 0) {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) {
        if (i + k < count) element[k] = next[k * tile.step];
      }
    } else {
#pragma unroll
      for (int k = 0; k < FIT_EIGHT; k++) {
        if (i + k < count) element[k] = *next;
        const bool ends = ++column == tile.width;
        next += ends ? tile.step - tile.width + 1 : 1;
        column = ends ? 0 : column;
      }
    }
#pragma unroll
    for (int k = 0; k < FIT_EIGHT; k++) {
      const float value = to_float(element[k]);
      held.x[v][k] = GRID ? fabsf(value) : value;
      largest = max(largest, float_to_bits(value) & 0x7FFFFFFFu);
    }
  }
  held.largest = largest;
}

/* --- sums --- */

/* OUTER sums of INNER numbers, which are added one after the other, in a tree; add(sum, i, j) is the sum i with its
 * number j. */
template <typename Sum, int OUTER, int INNER, typename F> __device__ inline Sum sum_in_tree(F add) {
  Sum sum[OUTER];
#pragma unroll
  for (int i = 0; i < OUTER; i++) {
    sum[i] = 0;
#pragma unroll
    for (int j = 0; j < INNER; j++) sum[i] = add(sum[i], i, j);
  }
#pragma unroll
  for (int half = OUTER / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; i++) sum[i] += sum[i + half];
  }
  return sum[0];
}

/* As short blocks are added up, of a lane's eights; add(sum, v, k) is the sum with element k of eight v. */
template <typename Sum, int EIGHTS, typename F> __device__ inline Sum sum_of_eights(F add) {
  return sum_in_tree<Sum, EIGHTS, FIT_EIGHT>(add);
}

/* As lanes of a part are, by a warp. */
template <typename Sum, int EIGHTS, typename F> __device__ inline Sum sum_of_lanes(F add) {
  const Sum sum = sum_in_tree<Sum, FIT_EIGHT, EIGHTS>([&](Sum sum, int k, int v) { return add(sum, v, k); });
  return combine_across<WARP>(sum, [](Sum a, Sum b) { return a + b; });
}

/* The statistics that are wanted, by either of these. */
template <int EIGHTS, typename F>
__device__ inline FitSums statistics_of(const FittedPlan &plan, const Held<EIGHTS> &held, F sum_of) {
  FitSums sums = {0, 0, held.largest};
  if (plan.fit.root_mean_square != 0) {
    sums.squares = sum_of([&](double sum, int v, int k) {
      const double x = held.x[v][k];
      return fma(x, x, sum);
    });
  }
  if (plan.fit.mean_magnitude != 0) {
    sums.magnitudes = sum_of([&](double sum, int v, int k) { return sum + fabs((double)held.x[v][k]); });
  }
  return sums;
}

} // namespace

#endif
