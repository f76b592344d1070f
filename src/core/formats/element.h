/* One element of any dtype and the number that it stands for. Loops over many elements have faster forms of the same
 * conversions on each device. */
#ifndef FP8_CORE_ELEMENT_H
#define FP8_CORE_ELEMENT_H

#include "core/dtype.h"
#include "core/formats/float_formats.h"
#include "core/number.h"

/* Writes a number to `element`: rounded once, to nearest even, float8 saturating; to integers towards zero and
 * saturating, NaN as 0. */
static inline void element_store(DType dtype, void *element, Number number) {
  float narrowed = float_to_narrow(dtype, number.value);
  int64_t integer = number.integer;
  switch (dtype) {
  case DTYPE_F32:
    *(float *)element = narrowed;
    return;
  case DTYPE_F16:
    *(uint16_t *)element = f16_from_float(narrowed);
    return;
  case DTYPE_BF16:
    *(uint16_t *)element = bf16_from_float(narrowed);
    return;
  case DTYPE_E4M3:
    *(uint8_t *)element = e4m3_from_float(narrowed, true);
    return;
  case DTYPE_E5M2:
    *(uint8_t *)element = e5m2_from_float(narrowed, true);
    return;
  case DTYPE_U8:
    *(uint8_t *)element = (uint8_t)int64_clamp(integer, 0, UINT8_MAX);
    return;
  case DTYPE_I32:
    *(int32_t *)element = (int32_t)int64_clamp(integer, INT32_MIN, INT32_MAX);
    return;
  case DTYPE_I64:
    *(int64_t *)element = integer;
    return;
  }
  trap_missing_case();
}

/* The number that `element` stands for, exact but for an i64 beyond 2^53. */
static inline double element_load(DType dtype, const void *element) {
  switch (dtype) {
  case DTYPE_F32:
    return *(const float *)element;
  case DTYPE_F16:
    return f16_to_float(*(const uint16_t *)element);
  case DTYPE_BF16:
    return bf16_to_float(*(const uint16_t *)element);
  case DTYPE_E4M3:
    return e4m3_to_float(*(const uint8_t *)element);
  case DTYPE_E5M2:
    return e5m2_to_float(*(const uint8_t *)element);
  case DTYPE_U8:
    return *(const uint8_t *)element;
  case DTYPE_I32:
    return *(const int32_t *)element;
  case DTYPE_I64:
    return (double)*(const int64_t *)element;
  }
  trap_missing_case();
}

/* A number as the dtype has it, for a comparison or a choice: rounded as element_store does, but beyond the largest value
 * of a float8 type infinite, so that all values are still below it. */
static inline Number number_in(DType dtype, Number number) {
  float narrowed = float_to_narrow(dtype, number.value);
  switch (dtype) {
  case DTYPE_F32:
    return number_of(narrowed);
  case DTYPE_F16:
    return number_of(f16_to_float(f16_from_float(narrowed)));
  case DTYPE_BF16:
    return number_of(bf16_to_float(bf16_from_float(narrowed)));
  case DTYPE_E4M3: {
    float rounded = e4m3_to_float(e4m3_from_float(narrowed, false)); /* which has no infinity */
    bool overflows = rounded != rounded && number.value == number.value;
    return number_of(overflows ? copysign(INFINITY, number.value) : rounded);
  }
  case DTYPE_E5M2:
    return number_of(e5m2_to_float(e5m2_from_float(narrowed, false)));
  case DTYPE_U8:
    return number_of_integer(int64_clamp(number.integer, 0, UINT8_MAX));
  case DTYPE_I32:
    return number_of_integer(int64_clamp(number.integer, INT32_MIN, INT32_MAX));
  case DTYPE_I64:
    return number_of_integer(number.integer);
  }
  trap_missing_case();
}

#endif
