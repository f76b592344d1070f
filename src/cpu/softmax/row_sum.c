#include "cpu/softmax/row_sum.h"

#include <math.h>

#include "cpu/convert.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

VECTORIZE void exp_minus(float *restrict out, const float *restrict x, float scale, float shift, int n) {
  for (int i = 0; i < n; i++) out[i] = vector_exp_down(x[i] * scale - shift);
}

RowSum row_sum(DType dtype, const void *data, int64_t first, int64_t length, float scale, float *kept) {
  float buffer[CHUNK], scaled[CHUNK], largest = -INFINITY;
  bool direct = scale == 1 && (dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16);
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    if (direct) {
      const char *x = (const char *)data + (first + start) * dtype_size(dtype);
      largest = larger_or_nan(largest, max_run(dtype, x, n));
      continue;
    }
    scale_floats(scaled, load_floats(dtype, data, first + start, n, buffer), scale, n);
    largest = larger_or_nan(largest, max_floats(scaled, n));
  }
  double sum = 0;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    float *out = kept ? kept + start : scaled;
    exp_minus(out, load_floats(dtype, data, first + start, n, buffer), scale, largest, n);
    sum += sum_floats(out, n);
  }
  return (RowSum){largest, (float)sum};
}
