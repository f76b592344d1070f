#include "core/dtype.h"

#include <string.h>

typedef struct DTypeInfo {
  const char *name;
  size_t size;
} DTypeInfo;

static const DTypeInfo dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 4},   [DTYPE_F16] = {"f16", 2}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_E4M3] = {"e4m3", 1},
    [DTYPE_E5M2] = {"e5m2", 1}, [DTYPE_U8] = {"u8", 1},   [DTYPE_I32] = {"i32", 4},   [DTYPE_I64] = {"i64", 8},
};

size_t dtype_size(DType dtype) { return dtypes[dtype].size; }

const char *dtype_name(DType dtype) { return dtypes[dtype].name; }

bool dtype_parse(const char *name, DType *dtype) {
  for (int i = 0; i < DTYPE_COUNT; i++) {
    if (strcmp(dtypes[i].name, name) == 0) {
      *dtype = (DType)i;
      return true;
    }
  }
  return false;
}

bool dtype_is_float(DType dtype) { return dtype <= DTYPE_E5M2; }

bool dtype_is_float8(DType dtype) { return dtype == DTYPE_E4M3 || dtype == DTYPE_E5M2; }

bool dtype_is_compute_float(DType dtype) { return dtype <= DTYPE_BF16; }

DType dtype_promote(DType a, DType b) {
  if (a == b) return a;
  if (dtype_is_float(a) != dtype_is_float(b)) return dtype_is_float(a) ? a : b;
  if (!dtype_is_float(a)) return a > b ? a : b;
  if (dtype_is_float8(a) && dtype_is_float8(b)) return DTYPE_F16;
  if (dtype_is_float8(a)) return b;
  if (dtype_is_float8(b)) return a;
  return DTYPE_F32;
}
