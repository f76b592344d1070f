/* Rows of a contiguous matrix, each held in the registers of a group of threads: a warp, or the whole thread block. */
#ifndef FP8_ROWS_CUH
#define FP8_ROWS_CUH

#include "vectors.cuh"

enum { ROWS_BLOCK = 256 };

/* A group of THREADS threads holds a row as 16-byte vectors: thread `lane` has vectors lane, lane + THREADS, …, at most
 * VECTORS of them. */
template <int THREADS, int VECTORS> struct RowShape {
  static constexpr int threads = THREADS;
  static constexpr int vectors = VECTORS;
  static constexpr int groups = ROWS_BLOCK / THREADS; /* rows that a thread block takes at once */
};

/* 16-byte vectors in a row, if that is a whole number of them; else 0. */
inline int64_t vectors_in_row(DType dtype, int64_t columns) {
  const int64_t width = dtype == DTYPE_F32 ? vector_width<float> : vector_width<BFloat16>;
  return (dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16) && columns % width == 0 ? columns / width
                                                                                                   : 0;
}

inline bool on_vector(const void *data) { return (uintptr_t)data % sizeof(uint4) == 0; }

/* Calls f with the smallest shape that holds rows of `count` vectors and returns true; false if there is none. */
template <typename F> bool with_row_shape(int64_t count, F f) {
  if (count < 1 || count > 8 * ROWS_BLOCK) return false;
  if (count <= WARP) {
    f(RowShape<WARP, 1>());
  } else if (count <= 2 * WARP) {
    f(RowShape<WARP, 2>());
  } else if (count <= 3 * WARP) {
    f(RowShape<WARP, 3>());
  } else if (count <= 4 * WARP) {
    f(RowShape<WARP, 4>());
  } else if (count <= ROWS_BLOCK) {
    f(RowShape<ROWS_BLOCK, 1>());
  } else if (count <= 2 * ROWS_BLOCK) {
    f(RowShape<ROWS_BLOCK, 2>());
  } else if (count <= 4 * ROWS_BLOCK) {
    f(RowShape<ROWS_BLOCK, 4>());
  } else {
    f(RowShape<ROWS_BLOCK, 8>());
  }
  return true;
}

/* Calls f(row, lane) with the threads of a group together for each of the rows that are the group's. */
template <typename Shape, typename F> __device__ inline void for_each_held_row(int64_t rows, F f) {
  const int lane = threadIdx.x % Shape::threads;
  int64_t row = (int64_t)blockIdx.x * Shape::groups + threadIdx.x / Shape::threads;
  for (; row < rows; row += (int64_t)gridDim.x * Shape::groups) f(row, lane);
}

/* The first `count` vectors of a row; zeros where there are fewer than the shape holds. */
template <typename Shape>
__device__ inline void load_row(const uint4 *row, int lane, int count, uint4 (&raw)[Shape::vectors]) {
#pragma unroll
  for (int v = 0; v < Shape::vectors; v++) {
    const int i = lane + v * Shape::threads;
    raw[v] = i < count ? row[i] : make_uint4(0, 0, 0, 0);
  }
}

/* The sum of one value from each thread of a group, to all of them. */
template <typename Shape> __device__ inline float sum_across(float value) {
  return combine_across<Shape::threads>(value, [](float a, float b) { return a + b; });
}

/* e^x for x up to 0 or little more. For 16-bit results two instructions, whose error grows with |x|, as the result
 * vanishes: 1e-6 at -10. */
template <typename Scalar> __device__ inline float exponential(float x) {
  return sizeof(Scalar) == 2 ? __expf(x) : expf(x);
}

/* The rows a whole grid takes at once are a few waves. */
template <typename Shape> int rows_grid_of(Launch launch, int64_t rows) {
  return grid_size(launch, rows, Shape::groups, 64);
}

#endif
