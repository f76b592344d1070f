/* What normalizations of rows and of channels share. */
#ifndef FP8_CPU_NORMALIZE_H
#define FP8_CPU_NORMALIZE_H

#include "core/normalize.h"
#include "core/tensor.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* A contiguous tensor, or none where data is NULL. */
typedef struct Values {
  void *data;
  DType dtype;
} Values;

static inline Values values_of(const Tensor *tensor) {
  if (!tensor) return (Values){0};
  return (Values){tensor_data(tensor), tensor->dtype};
}

static inline const float *load(Values values, int64_t start, int n, float *buffer) {
  return load_floats(values.dtype, values.data, start, n, buffer);
}

#endif
