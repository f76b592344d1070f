/* The formula of normalization for one element. */
#ifndef FP8_CORE_NORMALIZE_H
#define FP8_CORE_NORMALIZE_H

#include "core/portable.h"

/* A row's mean, and what rounding it to float32 left out: where elements are far from 0 and close together, that is as
 * much as they differ by. */
typedef struct RowMean {
  float rounded, rest;
} RowMean;

PORTABLE RowMean row_mean_of(double mean) {
  RowMean result;
  result.rounded = (float)mean;
  result.rest = (float)(mean - (double)result.rounded);
  return result;
}

/* (x - mean) · inverse. Halves, because a difference of finite numbers may be as much as twice the largest. */
PORTABLE float normalized_value(float x, RowMean mean, float inverse) {
  return ((x * 0.5f - mean.rounded * 0.5f) - mean.rest * 0.5f) * (inverse * 2.0f);
}

#endif
