/* What the kernels that add up columns have in common: threads that walk down the rows of one vector of columns. */
#ifndef FP8_KERNELS_MEASURE_ROWS_CUH
#define FP8_KERNELS_MEASURE_ROWS_CUH

#include "vectors.cuh"

namespace {

/* Sums of up to LONGEST_CHAIN rows are float32. */
enum { BLOCK = 256, ROWS_IN_FLIGHT = 8, LONGEST_CHAIN = 256 };

inline int vector_columns(const MeasurePlan &plan) {
  return with_scalar(plan.dtype, [&](auto scalar) { return (int)(plan.columns / vector_width<decltype(scalar)>); });
}

/* The vectors at `from`, of row `row`, and so many rows further on; 0 for those that do not exist. across: the vectors of a
 * row. */
__device__ inline void load_rows(uint4 (&raw)[ROWS_IN_FLIGHT], const uint4 *from, int64_t row, int64_t step,
                                 int64_t rows, int across) {
  if (row + (ROWS_IN_FLIGHT - 1) * step < rows) {
#pragma unroll
    for (int i = 0; i < ROWS_IN_FLIGHT; i++) raw[i] = from[i * step * across];
  } else {
#pragma unroll
    for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
      raw[i] = make_uint4(0, 0, 0, 0);
      if (row + i * step < rows) raw[i] = from[i * step * across];
    }
  }
}

template <typename Scalar>
__device__ inline void add_rows(float (&sum)[vector_width<Scalar>], const uint4 (&raw)[ROWS_IN_FLIGHT]) {
#pragma unroll
  for (int i = 0; i < ROWS_IN_FLIGHT; i++) {
    float value[vector_width<Scalar>];
    unpack<Scalar>(raw[i], value);
#pragma unroll
    for (int k = 0; k < vector_width<Scalar>; k++) sum[k] += value[k];
  }
}

} // namespace

#endif
