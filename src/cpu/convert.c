#include "cpu/convert.h"

#include <math.h>
#include <string.h>

#include "core/formats/float_formats.h"
#include "cpu/parallel.h"
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
  const void *in = (const char *)data + start * dtype_size(dtype);
  switch (dtype) {
  case DTYPE_F32:
    return in;
  case DTYPE_F16:
    floats_from_f16(buffer, in, n);
    return buffer;
  case DTYPE_BF16:
    floats_from_bf16(buffer, in, n);
    return buffer;
  case DTYPE_E4M3:
    floats_from_e4m3(buffer, in, n);
    return buffer;
  case DTYPE_E5M2:
    floats_from_e5m2(buffer, in, n);
    return buffer;
  case DTYPE_U8:
    floats_from_u8(buffer, in, n);
    return buffer;
  case DTYPE_I32:
    floats_from_i32(buffer, in, n);
    return buffer;
  case DTYPE_I64:
    floats_from_i64(buffer, in, n);
    return buffer;
  }
  trap_missing_case();
}

/* --- from float32 --- */

VECTORIZE static void f16_from_floats(uint16_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = f16_from_float(in[i]);
}

VECTORIZE static void bf16_from_floats(uint16_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = bf16_from_float(in[i]);
}

/* Whether to saturate is a constant in each of these loops: as a variable it would keep them from being vectorized. */
VECTORIZE static void e4m3_from_floats(uint8_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e4m3_from_float(in[i], true);
}

VECTORIZE static void e5m2_from_floats(uint8_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e5m2_from_float(in[i], true);
}

VECTORIZE static void e4m3_from_floats_unsaturated(uint8_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e4m3_from_float(in[i], false);
}

VECTORIZE static void e5m2_from_floats_unsaturated(uint8_t *restrict out, const float *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = e5m2_from_float(in[i], false);
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
  void *out = (char *)data + start * dtype_size(dtype);
  switch (dtype) {
  case DTYPE_F32:
    if (out != values) memcpy(out, values, (size_t)n * sizeof *values);
    return;
  case DTYPE_F16:
    f16_from_floats(out, values, n);
    return;
  case DTYPE_BF16:
    bf16_from_floats(out, values, n);
    return;
  case DTYPE_E4M3:
    e4m3_from_floats(out, values, n);
    return;
  case DTYPE_E5M2:
    e5m2_from_floats(out, values, n);
    return;
  case DTYPE_U8:
    u8_from_floats(out, values, n);
    return;
  case DTYPE_I32:
    i32_from_floats(out, values, n);
    return;
  case DTYPE_I64:
    i64_from_floats(out, values, n);
    return;
  }
  trap_missing_case();
}

void store_floats_unsaturated(DType dtype, void *data, int64_t start, int n, const float *values) {
  uint8_t *out = (uint8_t *)data + start;
  if (dtype == DTYPE_E4M3) {
    e4m3_from_floats_unsaturated(out, values, n);
  } else if (dtype == DTYPE_E5M2) {
    e5m2_from_floats_unsaturated(out, values, n);
  } else {
    trap_missing_case();
  }
}

void convert_run(DType out_dtype, void *out, int64_t out_start, DType dtype, const void *in, int64_t start, int64_t n) {
  float buffer[CHUNK];
  for (int64_t done = 0; done < n; done += CHUNK) {
    int length = chunk_length(n, done);
    float *direct = out_dtype == DTYPE_F32 ? (float *)out + out_start + done : buffer;
    store_floats(out_dtype, out, out_start + done, length, load_floats(dtype, in, start + done, length, direct));
  }
}

typedef struct Conversion {
  DType out_dtype, dtype;
  void *out;
  const void *in;
} Conversion;

static void convert_range(int64_t begin, int64_t end, const void *context) {
  const Conversion *job = context;
  convert_run(job->out_dtype, job->out, begin, job->dtype, job->in, begin, end - begin);
}

void convert_all(DType out_dtype, void *out, DType dtype, const void *in, int64_t count) {
  parallel_chunks(count, 1, convert_range, &(Conversion){out_dtype, dtype, out, in});
}

/* --- 64-bit integers --- */

VECTORIZE static void integers_from_u8(int64_t *restrict out, const uint8_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = in[i];
}

VECTORIZE static void integers_from_i32(int64_t *restrict out, const int32_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = in[i];
}

const int64_t *load_integers(DType dtype, const void *data, int64_t start, int n, int64_t *buffer) {
  const void *in = (const char *)data + start * dtype_size(dtype);
  switch (dtype) {
  case DTYPE_I64:
    return in;
  case DTYPE_I32:
    integers_from_i32(buffer, in, n);
    return buffer;
  case DTYPE_U8:
    integers_from_u8(buffer, in, n);
    return buffer;
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    for (int done = 0; done < n; done += CHUNK) {
      float floats[CHUNK];
      int count = chunk_length(n, done);
      i64_from_floats(buffer + done, load_floats(dtype, data, start + done, count, floats), count);
    }
    return buffer;
  }
  trap_missing_case();
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
  void *out = (char *)data + start * dtype_size(dtype);
  switch (dtype) {
  case DTYPE_I64:
    if (out != values) memcpy(out, values, (size_t)n * sizeof *values);
    return;
  case DTYPE_I32:
    i32_from_integers(out, values, n);
    return;
  case DTYPE_U8:
    u8_from_integers(out, values, n);
    return;
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    for (int done = 0; done < n; done += CHUNK) {
      float floats[CHUNK];
      int count = chunk_length(n, done);
      floats_from_i64(floats, values + done, count);
      store_floats(dtype, data, start + done, count, floats);
    }
    return;
  }
  trap_missing_case();
}

VECTORIZE static void u8_from_low_bits(uint8_t *restrict out, const int64_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (uint8_t)in[i];
}

VECTORIZE static void i32_from_low_bits(int32_t *restrict out, const int64_t *restrict in, int n) {
  for (int i = 0; i < n; i++) out[i] = (int32_t)(uint32_t)in[i];
}

void store_wrapped_integers(DType dtype, void *data, int64_t start, int n, const int64_t *values) {
  void *out = (char *)data + start * dtype_size(dtype);
  switch (dtype) {
  case DTYPE_I64:
    if (out != values) memcpy(out, values, (size_t)n * sizeof *values);
    return;
  case DTYPE_I32:
    i32_from_low_bits(out, values, n);
    return;
  case DTYPE_U8:
    u8_from_low_bits(out, values, n);
    return;
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    break;
  }
  trap_missing_case();
}
