/* Number formats, quantization, and products of codes. */
#include <string.h>

#include "lua/binding.h"

/* Pushes a map made of `values`. */
static int push_map(lua_State *L, bool ok, const float values[MAP_SIZE]) {
  Device cpu = {DEVICE_CPU, 0};
  int64_t size = MAP_SIZE;
  return finish(L, ok && op_from_host(new_tensor(L), DTYPE_F32, cpu, 1, &size, values), 1);
}

static int optional_int(lua_State *L, int index, int fallback) {
  if (lua_isnoneornil(L, index)) return fallback;
  int64_t value = check_whole(L, index);
  return value > 1000 ? 1000 : value < -1000 ? -1000 : (int)value;
}

/* create_map(signed = true, exponent_bits = 5, precision_bits = 2, total_bits = 8) -> f32 (256) */
static int lfp8_create_map(lua_State *L) {
  float values[MAP_SIZE];
  bool has_sign = optional_boolean(L, 1, true);
  int exponent_bits = optional_int(L, 2, 5), precision_bits = optional_int(L, 3, 2), total_bits = optional_int(L, 4, 8);
  return push_map(L, map_create_float(values, has_sign, exponent_bits, precision_bits, total_bits), values);
}

/* create_dynamic_map(signed = true, max_exponent_bits = 7, total_bits = 8) -> f32 (256) */
static int lfp8_create_dynamic_map(lua_State *L) {
  float values[MAP_SIZE];
  bool has_sign = optional_boolean(L, 1, true);
  int max_exponent_bits = optional_int(L, 2, 7), total_bits = optional_int(L, 3, 8);
  return push_map(L, map_create_dynamic(values, has_sign, max_exponent_bits, total_bits), values);
}

/* create_linear_map(signed = true, total_bits = 8) -> f32 (256) */
static int lfp8_create_linear_map(lua_State *L) {
  float values[MAP_SIZE];
  bool has_sign = optional_boolean(L, 1, true);
  return push_map(L, map_create_linear(values, has_sign, optional_int(L, 2, 8)), values);
}

/* The blocksize at `index`: 0, one block for the whole tensor, where it is nil. */
static int64_t check_blocksize(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return 0;
  int64_t blocksize = check_whole(L, index);
  if (blocksize < 1) argument_error(L, index, "blocksize must be at least 1, got %.14g", (double)blocksize);
  return blocksize;
}

static bool check_stochastic(lua_State *L, int index) {
  const char *rounding = lua_tostring(L, index);
  if (lua_isnoneornil(L, index) || (rounding && strcmp(rounding, "nearest") == 0)) return false;
  if (rounding && strcmp(rounding, "stochastic") == 0) return true;
  argument_error(L, index, "rounding must be 'nearest' or 'stochastic', got %.40s",
                 rounding ? rounding : luaL_typename(L, index));
  return false;
}

/* The first five arguments of both functions below. */
static QuantizeOptions check_quantize_options(lua_State *L) {
  return (QuantizeOptions){
      .format = check_format(L, 2),
      .blocksize = check_blocksize(L, 3),
      .stochastic = check_stochastic(L, 4),
      .known_scale = optional_tensor(L, 5),
  };
}

/* quantize(x, format, blocksize, rounding, known scales, transpose, dtype of column sums, how often a whole tensor's
 * scale is wanted) -> codes, scales (one a block), transposed codes, column sums: backend.h, Quantizer and
 * QuantizeOutputs; nil for the last two where they are not asked for */
static int lfp8_quantize(lua_State *L) {
  lua_settop(L, 8);
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions options = check_quantize_options(L);
  bool transpose = optional_boolean(L, 6, false), sum = !lua_isnil(L, 7);
  if (sum) options.sum_dtype = check_dtype(L, 7);
  if (!lua_isnil(L, 8)) options.scale_count = check_whole(L, 8);
  if (options.scale_count < 0) argument_error(L, 8, "the scale can't be made %.14g times", (double)options.scale_count);
  QuantizeOutputs outputs = {.codes = new_tensor(L), .scale = new_tensor(L)};
  if (transpose) outputs.transposed = new_tensor(L);
  if (sum && !transpose) lua_pushnil(L);
  if (sum) outputs.column_sum = new_tensor(L);
  return finish(L, op_quantize(&outputs, x, &options), sum ? 4 : transpose ? 3 : 2);
}

/* dequantize(codes, scales, format, blocksize, dtype) -> tensor */
static int lfp8_dequantize(lua_State *L) {
  const Tensor *codes = check_tensor(L, 1), *scale = check_tensor(L, 2);
  Format format = check_format(L, 3);
  int64_t blocksize = check_blocksize(L, 4);
  DType dtype = lua_isnoneornil(L, 5) ? DTYPE_F32 : check_dtype(L, 5);
  return finish(L, op_dequantize(new_tensor(L), codes, scale, format, blocksize, dtype), 1);
}

/* fake_quantize(x, format, blocksize, rounding, known scales, dtype, dtype of column sums, keep scales) -> x
 * quantized and dequantized, of its own dtype if none is given; column sums, nil if not asked for; scales, if to be
 * kept */
static int lfp8_fake_quantize(lua_State *L) {
  lua_settop(L, 8);
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions options = check_quantize_options(L);
  options.dtype = lua_isnil(L, 6) ? x->dtype : check_dtype(L, 6);
  bool sum = !lua_isnil(L, 7), keep_scale = optional_boolean(L, 8, false);
  if (sum) options.sum_dtype = check_dtype(L, 7);
  QuantizeOutputs outputs = {.values = new_tensor(L)};
  if (sum) outputs.column_sum = new_tensor(L);
  if (keep_scale && !sum) lua_pushnil(L);
  if (keep_scale) outputs.scale = new_tensor(L);
  return finish(L, op_quantize(&outputs, x, &options), keep_scale ? 3 : sum ? 2 : 1);
}

/* scaled_matmul(a (m, k), scales of a, b (n, k), scales of b, bias or nil, dtype, fast = false) -> (m, n): float8
 * codes, one scale or one a row; fast: backend.h */
static int lfp8_scaled_matmul(lua_State *L) {
  const Tensor *a = check_tensor(L, 1), *scale_a = check_tensor(L, 2);
  const Tensor *b = check_tensor(L, 3), *scale_b = check_tensor(L, 4), *bias = optional_tensor(L, 5);
  DType dtype = check_dtype(L, 6);
  bool fast = optional_boolean(L, 7, false);
  return finish(L, op_scaled_matmul(new_tensor(L), a, scale_a, b, scale_b, bias, dtype, fast), 1);
}

/* compare(row, x, values or codes or nil, scales or nil, their format, blocksize): what became of x, as the words of a
 * backend.h Comparison, into an i64 row */
static int lfp8_compare(lua_State *L) {
  Tensor *row = check_tensor(L, 1);
  const Tensor *x = check_tensor(L, 2), *values = optional_tensor(L, 3), *scale = optional_tensor(L, 4);
  Format format = {0};
  if (scale) format = check_format(L, 5);
  return finish(L, op_compare(row, x, values, scale, format, check_blocksize(L, 6)), 0);
}

const luaL_Reg quantize_functions[] = {
    {"create_map", lfp8_create_map},
    {"create_dynamic_map", lfp8_create_dynamic_map},
    {"create_linear_map", lfp8_create_linear_map},
    {"quantize", lfp8_quantize},
    {"dequantize", lfp8_dequantize},
    {"fake_quantize", lfp8_fake_quantize},
    {"compare", lfp8_compare},
    {"scaled_matmul", lfp8_scaled_matmul},
    {NULL, NULL},
};
