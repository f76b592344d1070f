/* Loops over floats that several kernels need. Where there are outputs, they may be inputs. */
#ifndef FP8_CPU_VECTORS_H
#define FP8_CPU_VECTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/formats/float_formats.h"
#include "cpu/vectorize.h"

/* out[i] = x[i] · factor */
void scale_floats(float *out, const float *x, float factor, int n);

/* out[i] = a[i] · b[i] */
void multiply_floats(float *out, const float *a, const float *b, int n);

/* out[i] = a[i] + b[i] */
void add_floats(float *out, const float *a, const float *b, int n);

/* The sum, in double. */
double sum_floats(const float *x, int n);

/* Σ (x[i] - from)², in double, where the square of a float is neither infinite nor 0. */
double squares_from(const float *x, double from, int n);

/* The largest and the smallest, NaN if there is one; minus infinity and infinity if n is 0. */
float max_floats(const float *x, int n);
float min_floats(const float *x, int n);

/* Of f32, bf16 or f16, which is a constant where this is inlined. */
INLINED float element_at(DType dtype, const void *x, int i) {
  if (dtype == DTYPE_F32) return ((const float *)x)[i];
  uint16_t bits = ((const uint16_t *)x)[i];
  return dtype == DTYPE_BF16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/* Puts it back, rounded to nearest even. */
INLINED void store_at(DType dtype, void *out, int i, float value) {
  if (dtype == DTYPE_F32) {
    ((float *)out)[i] = value;
  } else {
    ((uint16_t *)out)[i] = dtype == DTYPE_BF16 ? bf16_from_float(value) : f16_from_float(value);
  }
}

/* Lets the cache fetch what will be read or written later. It may lie beyond the end of what there is. */
INLINED void fetch_ahead(const void *data, int bytes) {
  enum { CACHE_LINE = 64 };
  for (int i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch((const char *)data + i);
}

/* The same of elements start … start + n - 1. */
INLINED void fetch_elements(DType dtype, const void *data, int64_t start, int n) {
  int64_t element = dtype_size(dtype);
  fetch_ahead((const char *)data + start * element, n * (int)element);
}

/* Whether so many bytes are fetched ahead. Where parts of them go through several loops, the processor does not foresee
 * which come next; but asking for what the caches hold only costs instructions. */
static inline bool is_fetched(int64_t bytes) { return bytes >= (int64_t)16 << 20; }

/* sum_floats, squares_from 0, max_floats and min_floats of n elements of f32, bf16 or f16, which are not stored as floats on
 * the way; is_far: of what is fetched ahead. */
double sum_run(DType dtype, const void *x, int n, bool is_far);
double squares_of_run(DType dtype, const void *x, int n);
float max_run(DType dtype, const void *x, int n);
float min_run(DType dtype, const void *x, int n);

/* The largest bits of |x|. Magnitudes order as integers, infinity and NaN above all. */
uint32_t largest_magnitude(const float *x, int n);

static inline float larger_or_nan(float a, float b) { return (b > a) | (b != b) ? b : a; }
static inline float smaller_or_nan(float a, float b) { return (b < a) | (b != b) ? b : a; }

#endif
