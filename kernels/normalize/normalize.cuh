/* What both directions of normalization share. */
#ifndef FP8_NORMALIZE_CUH
#define FP8_NORMALIZE_CUH

#include "core/normalize.h"

#include "normalize/normalize.h"
#include "rows.cuh"

/* Elements i … i + N - 1 of a weight or bias, which is f32 or of x's type; `missing` where there is none. */
template <typename Scalar, int N>
__device__ inline void load_parameter(NormalizeParameter parameter, int64_t i, float missing, float (&value)[N]) {
  if (!parameter.data) {
#pragma unroll
    for (int k = 0; k < N; k++) value[k] = missing;
  } else if (parameter.dtype == DTYPE_F32) {
    load_as<float>(parameter.data, i, value);
  } else {
    load_as<Scalar>(parameter.data, i, value);
  }
}

__device__ inline float load_parameter(NormalizeParameter parameter, int64_t i, float missing) {
  return parameter.data ? load_float(parameter.data, parameter.dtype, i) : missing;
}

/* The mean that the forward pass left for a row; none is 0. */
__device__ inline RowMean kept_mean(const float *mean, int64_t row) {
  return mean ? RowMean{mean[2 * row], mean[2 * row + 1]} : RowMean{0.0f, 0.0f};
}

#endif
