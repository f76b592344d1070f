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

/* Of elements first … first + n - 1, at most RUN. */
static float run_max(DType dtype, const void *data, int64_t first, int n, float scale) {
  if (scale == 1 && (dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16)) {
    return max_run(dtype, (const char *)data + first * dtype_size(dtype), n);
  }
  float buffer[CHUNK], scaled[CHUNK], largest = -INFINITY;
  for (int start = 0; start < n; start += CHUNK) {
    int length = chunk_length(n, start);
    scale_floats(scaled, load_floats(dtype, data, first + start, length, buffer), scale, length);
    largest = larger_or_nan(largest, max_floats(scaled, length));
  }
  return largest;
}

RowSum row_sum(DType dtype, const void *data, int64_t first, int64_t length, float scale, float *kept, int64_t next) {
  enum { RUN = 8192 }; /* a chunk would take as long to begin and end as its elements take */
  _Alignas(64) float buffer[CHUNK], powers[CHUNK];
  float largest = -INFINITY;
  for (int64_t start = 0; start < length; start += RUN) {
    int n = length - start < RUN ? (int)(length - start) : RUN;
    largest = larger_or_nan(largest, run_max(dtype, data, first + start, n, scale));
  }
  double sum = 0;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    float *out = kept ? kept + start : powers;
    if (next > 0) fetch_elements(dtype, data, next + start, n);
    exp_minus(out, load_floats(dtype, data, first + start, n, buffer), scale, largest, n);
    sum += sum_floats(out, n);
  }
  return (RowSum){largest, (float)sum};
}
