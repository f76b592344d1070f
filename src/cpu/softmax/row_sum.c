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
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    const float *x = load_floats(dtype, data, first + start, n, buffer);
    if (scale != 1) {
      scale_floats(scaled, x, scale, n);
      x = scaled;
    }
    largest = larger_or_nan(largest, max_floats(x, n));
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
