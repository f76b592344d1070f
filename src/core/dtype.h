/* Element types: their names, sizes, classes and promotion. */
#ifndef FP8_CORE_DTYPE_H
#define FP8_CORE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/trap.h"

typedef enum DType { DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_E4M3, DTYPE_E5M2, DTYPE_U8, DTYPE_I32, DTYPE_I64 } DType;

enum { DTYPE_COUNT = DTYPE_I64 + 1 };

/* FLOAT: what products, gradients and parameters can have. FLOAT8: codes of the hardware formats. */
typedef enum DTypeClass { DTYPE_CLASS_FLOAT, DTYPE_CLASS_FLOAT8, DTYPE_CLASS_INTEGER } DTypeClass;

PORTABLE DTypeClass dtype_class(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
    return DTYPE_CLASS_FLOAT;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    return DTYPE_CLASS_FLOAT8;
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    return DTYPE_CLASS_INTEGER;
  }
  trap_missing_case();
}

/* Bytes of one element. */
PORTABLE int64_t dtype_size(DType dtype) {
  switch (dtype) {
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
    return 1;
  case DTYPE_F16:
  case DTYPE_BF16:
    return 2;
  case DTYPE_F32:
  case DTYPE_I32:
    return 4;
  case DTYPE_I64:
    return 8;
  }
  trap_missing_case();
}

/* True for f32, f16, bf16, e4m3 and e5m2. */
PORTABLE bool dtype_is_float(DType dtype) { return dtype_class(dtype) != DTYPE_CLASS_INTEGER; }

PORTABLE bool dtype_is_float8(DType dtype) { return dtype_class(dtype) == DTYPE_CLASS_FLOAT8; }

/* True for f32, f16 and bf16. */
PORTABLE bool dtype_is_compute_float(DType dtype) { return dtype_class(dtype) == DTYPE_CLASS_FLOAT; }

PORTABLE bool dtype_is_integer(DType dtype) { return dtype_class(dtype) == DTYPE_CLASS_INTEGER; }

/* The name scripts use: "f32", "bf16", … */
const char *dtype_name(DType dtype);

/* "float", "float8" or "integer" */
const char *dtype_class_name(DTypeClass class_of_dtype);

/* Sets *dtype to the type called `name`; false if there is none. */
bool dtype_parse(const char *name, DType *dtype);

/* The narrowest type that holds the values of both: the wider of two floats (f32 for f16 with bf16, f16 for e4m3 with
 * e5m2), the float of a float and an integer, the wider of two integers. */
DType dtype_promote(DType a, DType b);

#endif
