#include "cpu/vectors.h"

#include <math.h>
#include <string.h>

#include "core/formats/float_formats.h"
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

/* --- of runs --- */

/* Independent partial results, so that a loop over them is a vector operation and none waits for the one before it: four
 * groups of as many doubles as a vector may have. */
enum { WIDTH = 8, LANES = 4 * WIDTH, EXTREME_LANES = 64 };

INLINED double sum_of_lanes(double (*lane)[WIDTH]) {
  double total[WIDTH];
  for (int j = 0; j < WIDTH; j++) total[j] = (lane[0][j] + lane[2][j]) + (lane[1][j] + lane[3][j]);
  for (int j = 0; j < WIDTH / 2; j++) total[j] += total[WIDTH / 2 + j];
  return (total[0] + total[1]) + (total[2] + total[3]);
}

INLINED double term(bool square, float x, double from) {
  double difference = (double)x - from;
  return square ? difference * difference : difference;
}

/* A total with the elements from i on, which are fewer than LANES. */
INLINED double with_rest(bool square, DType dtype, double total, const void *x, double from, int i, int n) {
  if (i == n) return total;
  double rest[WIDTH] = {0}; /* lanes that no number chooses stay in registers */
  for (int j = 0; i < n; i++, j++) rest[j % WIDTH] += term(square, element_at(dtype, x, i), from);
  for (int j = 0; j < WIDTH; j++) total += rest[j];
  return total;
}

/* Σ (x - from), or Σ (x - from)². */
INLINED double sum(bool square, DType dtype, const void *x, double from, int n) {
  double lane[4][WIDTH] = {0};
  const char *data = x;
  int i = 0, bytes = dtype == DTYPE_F32 ? 4 : 2;
  for (; i + LANES <= n; i += LANES, data += LANES * bytes) {
    for (int j = 0; j < WIDTH; j++) {
      lane[0][j] += term(square, element_at(dtype, data, j), from);
      lane[1][j] += term(square, element_at(dtype, data, WIDTH + j), from);
      lane[2][j] += term(square, element_at(dtype, data, 2 * WIDTH + j), from);
      lane[3][j] += term(square, element_at(dtype, data, 3 * WIDTH + j), from);
    }
  }
  return with_rest(square, dtype, sum_of_lanes(lane), x, from, i, n);
}

INLINED float eight_at(bool square, DType dtype, const void *x, int distance) {
  float value[8];
  for (int k = 0; k < 8; k++) {
    value[k] = element_at(dtype, x, k * distance);
    if (square) value[k] *= value[k];
  }
  return ((value[0] + value[1]) + (value[2] + value[3])) + ((value[4] + value[5]) + (value[6] + value[7]));
}

/* Σ x or Σ x² of 16-bit elements, whose squares float32 holds: eight of them are added in float32, to one in double. Three
 * roundings are at most 2^-22 of what was added, where the result is rounded to 2^-9 or 2^-12 of it. A sum that is not
 * finite, or of squares that may have vanished, is taken again in double. */
INLINED double sum_of_eights(bool square, DType dtype, const uint16_t *x, int n) {
  enum { PARTS = 32, STEP = 8 * PARTS, AHEAD = 4 * STEP };
  double lane[PARTS] = {0}, total = 0;
  int i = 0;
  for (; i + STEP <= n; i += STEP) {
    fetch_ahead(x + i + AHEAD, STEP * (int)sizeof *x);
    for (int j = 0; j < PARTS; j++) lane[j] += (double)eight_at(square, dtype, x + i + j, PARTS);
  }
  for (int j = 0; j < PARTS / 2; j++) lane[j] += lane[j + PARTS / 2];
  for (int j = 0; j < PARTS / 2; j++) total += lane[j];
  if (!(fabs(total) < INFINITY) || (square && total < 1e-25)) return sum(square, dtype, x, 0, n);
  return total + sum(square, dtype, x + i, 0, n - i);
}

/* The comparison passes NaN by, which is looked for beside it, two elements at a time. */
INLINED float extreme(DType dtype, const void *x, bool smallest, int n) {
  enum { HALF = EXTREME_LANES / 2 };
  float sign = smallest ? -1.0f : 1.0f, lane[EXTREME_LANES];
  int nan[HALF] = {0};
  for (int j = 0; j < EXTREME_LANES; j++) lane[j] = -INFINITY;
  int i = 0;
  for (; i + EXTREME_LANES <= n; i += EXTREME_LANES) {
    for (int j = 0; j < HALF; j++) {
      float a = sign * element_at(dtype, x, i + j), b = sign * element_at(dtype, x, i + HALF + j);
      lane[j] = a > lane[j] ? a : lane[j];
      lane[HALF + j] = b > lane[HALF + j] ? b : lane[HALF + j];
      nan[j] |= __builtin_isunordered(a, b);
    }
  }
  int any = 0;
  float largest = -INFINITY;
  for (; i < n; i++) {
    float a = sign * element_at(dtype, x, i);
    largest = a > largest ? a : largest;
    any |= a != a;
  }
  for (int j = 0; j < HALF; j++) any |= nan[j];
  for (int width = HALF; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) lane[j] = lane[j + width] > lane[j] ? lane[j + width] : lane[j];
  }
  largest = lane[0] > largest ? lane[0] : largest;
  return any ? NAN : sign * largest;
}

VECTORIZE double sum_floats(const float *x, int n) { return sum(false, DTYPE_F32, x, 0, n); }

/* The same sum of what is far from the caches: conversion to double leaves the processor too little room to foresee enough. */
VECTORIZE static double sum_far_floats(const float *x, int n) {
  enum { PART = 8 * LANES, AHEAD = 2048 };
  double lane[4][WIDTH] = {0};
  int whole = n / LANES * LANES;
  for (int first = 0; first < whole; first += PART) {
    const float *data = x + first;
    int length = whole - first < PART ? whole - first : PART;
    fetch_ahead(data + AHEAD, length * (int)sizeof *data);
    for (int i = 0; i < length; i += LANES, data += LANES) {
      for (int j = 0; j < WIDTH; j++) {
        lane[0][j] += (double)data[j];
        lane[1][j] += (double)data[WIDTH + j];
        lane[2][j] += (double)data[2 * WIDTH + j];
        lane[3][j] += (double)data[3 * WIDTH + j];
      }
    }
  }
  return with_rest(false, DTYPE_F32, sum_of_lanes(lane), x, 0, whole, n);
}

VECTORIZE static double sum_bf16(const uint16_t *x, int n) { return sum_of_eights(false, DTYPE_BF16, x, n); }
VECTORIZE static double sum_f16(const uint16_t *x, int n) { return sum_of_eights(false, DTYPE_F16, x, n); }

double sum_run(DType dtype, const void *x, int n, bool is_far) {
  if (dtype == DTYPE_F32) return is_far ? sum_far_floats(x, n) : sum_floats(x, n);
  return dtype == DTYPE_BF16 ? sum_bf16(x, n) : sum_f16(x, n);
}

VECTORIZE double squares_from(const float *x, double from, int n) { return sum(true, DTYPE_F32, x, from, n); }
VECTORIZE static double squares_of_floats(const float *x, int n) { return sum(true, DTYPE_F32, x, 0, n); }
VECTORIZE static double squares_of_bf16(const uint16_t *x, int n) { return sum_of_eights(true, DTYPE_BF16, x, n); }
VECTORIZE static double squares_of_f16(const uint16_t *x, int n) { return sum_of_eights(true, DTYPE_F16, x, n); }

double squares_of_run(DType dtype, const void *x, int n) {
  if (dtype == DTYPE_F32) return squares_of_floats(x, n);
  return dtype == DTYPE_BF16 ? squares_of_bf16(x, n) : squares_of_f16(x, n);
}

VECTORIZE float max_floats(const float *x, int n) { return extreme(DTYPE_F32, x, false, n); }
VECTORIZE static float max_bf16(const uint16_t *x, int n) { return extreme(DTYPE_BF16, x, false, n); }
VECTORIZE static float max_f16(const uint16_t *x, int n) { return extreme(DTYPE_F16, x, false, n); }

float max_run(DType dtype, const void *x, int n) {
  if (dtype == DTYPE_F32) return max_floats(x, n);
  return dtype == DTYPE_BF16 ? max_bf16(x, n) : max_f16(x, n);
}

VECTORIZE float min_floats(const float *x, int n) { return extreme(DTYPE_F32, x, true, n); }
VECTORIZE static float min_bf16(const uint16_t *x, int n) { return extreme(DTYPE_BF16, x, true, n); }
VECTORIZE static float min_f16(const uint16_t *x, int n) { return extreme(DTYPE_F16, x, true, n); }

float min_run(DType dtype, const void *x, int n) {
  if (dtype == DTYPE_F32) return min_floats(x, n);
  return dtype == DTYPE_BF16 ? min_bf16(x, n) : min_f16(x, n);
}

VECTORIZE uint32_t largest_magnitude(const float *x, int n) {
  uint32_t largest = 0;
  for (int i = 0; i < n; i++) {
    uint32_t magnitude = float_to_bits(x[i]) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}
