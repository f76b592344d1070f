#include "core/dtype.h"

#include <string.h>

static const char *const names[DTYPE_COUNT] = {
    [DTYPE_F32] = "f32",   [DTYPE_F16] = "f16", [DTYPE_BF16] = "bf16", [DTYPE_E4M3] = "e4m3",
    [DTYPE_E5M2] = "e5m2", [DTYPE_U8] = "u8",   [DTYPE_I32] = "i32",   [DTYPE_I64] = "i64",
};

const char *dtype_name(DType dtype) { return names[dtype]; }

const char *dtype_class_name(DTypeClass class_of_dtype) {
  switch (class_of_dtype) {
  case DTYPE_CLASS_FLOAT:
    return "float";
  case DTYPE_CLASS_FLOAT8:
    return "float8";
  case DTYPE_CLASS_INTEGER:
    return "integer";
  }
  trap_missing_case();
}

bool dtype_parse(const char *name, DType *dtype) {
  for (int i = 0; i < DTYPE_COUNT; i++) {
    if (strcmp(names[i], name) == 0) {
      *dtype = (DType)i;
      return true;
    }
  }
  return false;
}

DType dtype_promote(DType a, DType b) {
  if (a == b) return a;
  if (dtype_is_float(a) != dtype_is_float(b)) return dtype_is_float(a) ? a : b;
  if (!dtype_is_float(a)) return dtype_size(a) > dtype_size(b) ? a : b;
  if (dtype_is_float8(a) && dtype_is_float8(b)) return DTYPE_F16;
  if (dtype_is_float8(a)) return b;
  if (dtype_is_float8(b)) return a;
  return DTYPE_F32;
}
