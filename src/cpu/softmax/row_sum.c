#include "cpu/softmax/row_sum.h"

#include <math.h>

#include "cpu/reduce/kernels.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/vectorize.h"

VECTORIZE void exp_minus(float *restrict out, const float *restrict x, float scale, float shift, int n) {
  for (int i = 0; i < n; i++) out[i] = vector_exp(x[i] * scale - shift);
}

VECTORIZE static void multiply(float *restrict out, const float *restrict x, float scale, int n) {
  for (int i = 0; i < n; i++) out[i] = x[i] * scale;
}

RowSum row_sum(DType dtype, const void *data, int64_t first, int64_t length, float scale) {
  float buffer[CHUNK], scaled[CHUNK], largest = -INFINITY;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    const float *x = load_floats(dtype, data, first + start, n, buffer);
    if (scale != 1) {
      multiply(scaled, x, scale, n);
      x = scaled;
    }
    float chunk_largest = max_floats(x, n);
    largest = chunk_largest > largest || chunk_largest != chunk_largest ? chunk_largest : largest;
  }
  double sum = 0;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    exp_minus(scaled, load_floats(dtype, data, first + start, n, buffer), scale, largest, n);
    sum += sum_floats(scaled, n);
  }
  return (RowSum){largest, (float)sum};
}
