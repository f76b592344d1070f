/* Element types: their names, sizes and promotion. */
#ifndef FP8_CORE_DTYPE_H
#define FP8_CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum DType {
  DTYPE_F32,
  DTYPE_F16,
  DTYPE_BF16,
  DTYPE_E4M3,
  DTYPE_E5M2,
  DTYPE_U8,
  DTYPE_I32,
  DTYPE_I64,
  DTYPE_COUNT
} DType;

/* Bytes of one element. */
size_t dtype_size(DType dtype);

/* The name scripts use: "f32", "bf16", … */
const char *dtype_name(DType dtype);

/* Sets *dtype to the type called `name`; false if there is none. */
bool dtype_parse(const char *name, DType *dtype);

/* True for f32, f16, bf16, e4m3 and e5m2. */
bool dtype_is_float(DType dtype);

/* True for e4m3 and e5m2. */
bool dtype_is_float8(DType dtype);

/* True for f32, f16 and bf16, which products, gradients and parameters can have. */
bool dtype_is_compute_float(DType dtype);

/* The narrowest type that holds the values of both: the wider of two floats (f32 for f16 with bf16, f16 for e4m3 with
 * e5m2), the float of a float and an integer, the wider of two integers. */
DType dtype_promote(DType a, DType b);

#endif
