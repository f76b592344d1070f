#include "cpu/vectors.h"

#include <math.h>

#include "core/portable.h"
#include "cpu/vectorize.h"

VECTORIZE void scale_floats(float *out, const float *x, float factor, int n) {
#pragma omp simd
  for (int i = 0; i < n; i++) out[i] = x[i] * factor;
}

VECTORIZE void multiply_floats(float *out, const float *a, const float *b, int n) {
#pragma omp simd
  for (int i = 0; i < n; i++) out[i] = a[i] * b[i];
}

VECTORIZE void add_floats(float *out, const float *a, const float *b, int n) {
#pragma omp simd
  for (int i = 0; i < n; i++) out[i] = a[i] + b[i];
}

/* Independent partial results, so that a loop over them is a vector operation. */
enum { LANES = 32 };

VECTORIZE double sum_floats(const float *x, int n) {
  double lane[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] += (double)x[i + j];
  }
  for (; i < n; i++) lane[0] += (double)x[i];
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

VECTORIZE double squares_from(const float *x, double from, int n) {
  double lane[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] += ((double)x[i + j] - from) * ((double)x[i + j] - from);
  }
  for (; i < n; i++) lane[0] += ((double)x[i] - from) * ((double)x[i] - from);
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] += lane[j + width];
  }
  return lane[0];
}

VECTORIZE float max_floats(const float *x, int n) {
  float lane[LANES];
  for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] = larger_or_nan(lane[j], x[i + j]);
  }
  for (; i < n; i++) lane[0] = larger_or_nan(lane[0], x[i]);
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] = larger_or_nan(lane[j], lane[j + width]);
  }
  return lane[0];
}

VECTORIZE float min_floats(const float *x, int n) {
  float lane[LANES];
  for (int j = 0; j < LANES; j++) lane[j] = INFINITY;
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) lane[j] = smaller_or_nan(lane[j], x[i + j]);
  }
  for (; i < n; i++) lane[0] = smaller_or_nan(lane[0], x[i]);
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] = smaller_or_nan(lane[j], lane[j + width]);
  }
  return lane[0];
}

VECTORIZE uint32_t largest_magnitude(const float *x, int n) {
  uint32_t largest = 0;
  for (int i = 0; i < n; i++) {
    uint32_t magnitude = float_to_bits(x[i]) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}
