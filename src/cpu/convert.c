#include "cpu/convert.h"

#include <string.h>

#include "core/float_formats.h"
#include "cpu/vectorize.h"

/* --- to float32 --- */

VECTORIZE static void floats_from_f16(float *restrict out, const uint16_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = f16_to_float(in[i]);
}

VECTORIZE static void floats_from_bf16(float *restrict out, const uint16_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = bf16_to_float(in[i]);
}

VECTORIZE static void floats_from_e4m3(float *restrict out, const uint8_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e4m3_to_float(in[i]);
}

VECTORIZE static void floats_from_e5m2(float *restrict out, const uint8_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e5m2_to_float(in[i]);
}

VECTORIZE static void floats_from_u8(float *restrict out, const uint8_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (float)in[i];
}

VECTORIZE static void floats_from_i32(float *restrict out, const int32_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (float)in[i];
}

VECTORIZE static void floats_from_i64(float *restrict out, const int64_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (float)in[i];
}

const float *load_floats(DType dtype, const void *data, int64_t start, int n, float *buffer) {
  const void *in = (const char *)data + start * (int64_t)dtype_size(dtype);
  switch (dtype) {
  case DTYPE_F32:
    return in;
  case DTYPE_F16:
    floats_from_f16(buffer, in, n);
    break;
  case DTYPE_BF16:
    floats_from_bf16(buffer, in, n);
    break;
  case DTYPE_E4M3:
    floats_from_e4m3(buffer, in, n);
    break;
  case DTYPE_E5M2:
    floats_from_e5m2(buffer, in, n);
    break;
  case DTYPE_U8:
    floats_from_u8(buffer, in, n);
    break;
  case DTYPE_I32:
    floats_from_i32(buffer, in, n);
    break;
  case DTYPE_I64:
    floats_from_i64(buffer, in, n);
    break;
  case DTYPE_COUNT:
    break;
  }
  return buffer;
}

/* --- from float32 --- */

VECTORIZE static void f16_from_floats(uint16_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = f16_from_float(in[i]);
}

VECTORIZE static void bf16_from_floats(uint16_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = bf16_from_float(in[i]);
}

VECTORIZE static void e4m3_from_floats(uint8_t *restrict out, const float *restrict in, int n, bool saturate) {
  for (int i = 0; i < n; i++) out[i] = e4m3_from_float(in[i], saturate);
}

VECTORIZE static void e5m2_from_floats(uint8_t *restrict out, const float *restrict in, int n, bool saturate) {
  for (int i = 0; i < n; i++) out[i] = e5m2_from_float(in[i], saturate);
}

/* As integer_from_float, without branches; the first comparison is false for NaN. */
VECTORIZE static void u8_from_floats(uint8_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) {
    float value = in[i] > 0.0f ? in[i] : 0.0f;
    out[i] = (uint8_t)(int32_t)(value < 255.0f ? value : 255.0f);
  }
}

static void i32_from_floats(int32_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (int32_t)integer_from_float(in[i], INT32_MIN, INT32_MAX);
}

static void i64_from_floats(int64_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = integer_from_float(in[i], INT64_MIN, INT64_MAX);
}

void store_floats(DType dtype, void *data, int64_t start, int n, const float *values) {
  void *out = (char *)data + start * (int64_t)dtype_size(dtype);
  switch (dtype) {
  case DTYPE_F32:
    if (out != values) memcpy(out, values, (size_t)n * sizeof *values);
    break;
  case DTYPE_F16:
    f16_from_floats(out, values, n);
    break;
  case DTYPE_BF16:
    bf16_from_floats(out, values, n);
    break;
  case DTYPE_E4M3:
    e4m3_from_floats(out, values, n, true);
    break;
  case DTYPE_E5M2:
    e5m2_from_floats(out, values, n, true);
    break;
  case DTYPE_U8:
    u8_from_floats(out, values, n);
    break;
  case DTYPE_I32:
    i32_from_floats(out, values, n);
    break;
  case DTYPE_I64:
    i64_from_floats(out, values, n);
    break;
  case DTYPE_COUNT:
    break;
  }
}

void store_floats_unsaturated(DType dtype, void *data, int64_t start, int n, const float *values) {
  uint8_t *out = (uint8_t *)data + start;
  if (dtype == DTYPE_E4M3) {
    e4m3_from_floats(out, values, n, false);
  } else {
    e5m2_from_floats(out, values, n, false);
  }
}

/* --- 64-bit integers --- */

VECTORIZE static void integers_from_u8(int64_t *restrict out, const uint8_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = in[i];
}

VECTORIZE static void integers_from_i32(int64_t *restrict out, const int32_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = in[i];
}

const int64_t *load_integers(DType dtype, const void *data, int64_t start, int n, int64_t *buffer) {
  const void *in = (const char *)data + start * (int64_t)dtype_size(dtype);
  if (dtype == DTYPE_I64) return in;
  if (dtype == DTYPE_I32) {
    integers_from_i32(buffer, in, n);
  } else if (dtype == DTYPE_U8) {
    integers_from_u8(buffer, in, n);
  } else {
    float floats[CHUNK];
    for (int done = 0; done < n; done += CHUNK) {
      int count = n - done < CHUNK ? n - done : CHUNK;
      i64_from_floats(buffer + done, load_floats(dtype, data, start + done, count, floats), count);
    }
  }
  return buffer;
}

VECTORIZE static void u8_from_integers(uint8_t *restrict out, const int64_t *restrict in, int n) {
  for (int i = 0; i < n; i++) {
    int64_t value = in[i] > 0 ? in[i] : 0;
    out[i] = (uint8_t)(value < UINT8_MAX ? value : UINT8_MAX);
  }
}

VECTORIZE static void i32_from_integers(int32_t *restrict out, const int64_t *restrict in, int n) {
  for (int i = 0; i < n; i++) {
    int64_t value = in[i] > INT32_MIN ? in[i] : INT32_MIN;
    out[i] = (int32_t)(value < INT32_MAX ? value : INT32_MAX);
  }
}

void store_integers(DType dtype, void *data, int64_t start, int n, const int64_t *values) {
  void *out = (char *)data + start * (int64_t)dtype_size(dtype);
  if (dtype == DTYPE_I64) {
    if (out != values) memcpy(out, values, (size_t)n * sizeof *values);
  } else if (dtype == DTYPE_I32) {
    i32_from_integers(out, values, n);
  } else if (dtype == DTYPE_U8) {
    u8_from_integers(out, values, n);
  } else {
    float floats[CHUNK];
    for (int done = 0; done < n; done += CHUNK) {
      int count = n - done < CHUNK ? n - done : CHUNK;
      floats_from_i64(floats, values + done, count);
      store_floats(dtype, data, start + done, count, floats);
    }
  }
}

/* --- single numbers --- */

int64_t integer_from_double(double value) {
  if (value != value) return 0;
  if (value <= -0x1p63) return INT64_MIN;
  if (value >= 0x1p63) return INT64_MAX;
  return (int64_t)value;
}

void store_number(DType dtype, void *element, double number) {
  if (dtype_is_float(dtype)) {
    float value = (float)number;
    store_floats(dtype, element, 0, 1, &value);
  } else {
    int64_t value = integer_from_double(number);
    store_integers(dtype, element, 0, 1, &value);
  }
}
