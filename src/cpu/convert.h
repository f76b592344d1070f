/* Runs of contiguous elements of any dtype to and from float32 and 64-bit integers, the two types that kernels
 * compute in. */
#ifndef FP8_CPU_CONVERT_H
#define FP8_CPU_CONVERT_H

#include <stdint.h>

#include "core/dtype.h"

/* Elements that a kernel handles at once: few enough for its buffers to stay in the first-level cache. */
enum { CHUNK = 512 };

/* Elements start … start + n - 1 of `data` as float32: the data itself if it is f32, otherwise converted into
 * `buffer`. */
const float *load_floats(DType dtype, const void *data, int64_t start, int n, float *buffer);

/* The same as 64-bit integers, floats going towards zero. */
const int64_t *load_integers(DType dtype, const void *data, int64_t start, int n, int64_t *buffer);

/* Writes values to elements start … start + n - 1 of `data` with the casts of backend.h; does nothing if they are
 * there. */
void store_floats(DType dtype, void *data, int64_t start, int n, const float *values);
void store_integers(DType dtype, void *data, int64_t start, int n, const int64_t *values);

/* store_floats for float8, without saturation. */
void store_floats_unsaturated(DType dtype, void *data, int64_t start, int n, const float *values);

/* Towards zero, saturating; NaN gives 0. */
int64_t integer_from_double(double value);

/* One element, `number` converted to `dtype`, into `element`. */
void store_number(DType dtype, void *element, double number);

#endif
