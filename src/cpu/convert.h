/* Runs of contiguous elements of any dtype to and from float32 and 64-bit integers, the two types that kernels
 * compute in. */
#ifndef FP8_CPU_CONVERT_H
#define FP8_CPU_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/formats/element.h"

/* Elements start … start + n - 1 of `data` as float32: the data itself if it is f32, otherwise converted into
 * `buffer`. */
const float *load_floats(DType dtype, const void *data, int64_t start, int n, float *buffer);

/* The same as 64-bit integers, floats going towards zero. */
const int64_t *load_integers(DType dtype, const void *data, int64_t start, int n, int64_t *buffer);

/* Writes values to elements start … start + n - 1 of `data` with the casts of backend.h; does nothing if they are
 * there. */
void store_floats(DType dtype, void *data, int64_t start, int n, const float *values);
void store_integers(DType dtype, void *data, int64_t start, int n, const int64_t *values);

/* store_integers into integers, of which the low bits are kept. */
void store_wrapped_integers(DType dtype, void *data, int64_t start, int n, const int64_t *values);

/* store_floats for float8, without saturation. */
void store_floats_unsaturated(DType dtype, void *data, int64_t start, int n, const float *values);

/* n elements of float dtypes, of any count: in[start + i] to out[out_start + i]. */
void convert_run(DType out_dtype, void *out, int64_t out_start, DType dtype, const void *in, int64_t start, int64_t n);

/* All `count` elements, on all threads. */
void convert_all(DType out_dtype, void *out, DType dtype, const void *in, int64_t count);

#endif
