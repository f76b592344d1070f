/* Number formats, quantization, and products of codes. */
#include <math.h>
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

static int64_t check_tile_side(lua_State *L, int index, int position) {
  lua_rawgeti(L, index, position);
  double side = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
  if (!(side >= 1 && side <= 0x1p53 && side == floor(side))) {
    argument_error(L, index, "a tile must be {rows, columns}, whole numbers of at least 1");
  }
  lua_pop(L, 1);
  return (int64_t)side;
}

/* The blocks at `index`: a blocksize, a tile {rows, columns}, or nil for the whole tensor. */
static Blocks check_blocks(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return (Blocks){0};
  if (lua_istable(L, index)) {
    if (lua_objlen(L, index) != 2) argument_error(L, index, "a tile must be {rows, columns}");
    return (Blocks){.rows = check_tile_side(L, index, 1), .columns = check_tile_side(L, index, 2)};
  }
  int64_t blocksize = check_whole(L, index);
  if (blocksize < 1) argument_error(L, index, "blocksize must be at least 1, got %.14g", (double)blocksize);
  return (Blocks){.length = blocksize};
}

static ScaleRounding check_scale_rounding(lua_State *L, int index) {
  const char *rounding = lua_tostring(L, index);
  if (lua_isnoneornil(L, index) || (rounding && strcmp(rounding, "none") == 0)) return SCALE_EXACT;
  if (rounding && strcmp(rounding, "power_of_two") == 0) return SCALE_POWER_OF_TWO;
  if (rounding && strcmp(rounding, "mx") == 0) return SCALE_MX;
  argument_error(L, index, "scale rounding must be 'none', 'power_of_two' or 'mx', got %.40s",
                 rounding ? rounding : luaL_typename(L, index));
  return SCALE_EXACT;
}

static bool check_stochastic(lua_State *L, int index) {
  const char *rounding = lua_tostring(L, index);
  if (lua_isnoneornil(L, index) || (rounding && strcmp(rounding, "nearest") == 0)) return false;
  if (rounding && strcmp(rounding, "stochastic") == 0) return true;
  argument_error(L, index, "rounding must be 'nearest' or 'stochastic', got %.40s",
                 rounding ? rounding : luaL_typename(L, index));
  return false;
}

/* The first five and the ninth argument of both functions below. */
static QuantizeOptions check_quantize_options(lua_State *L) {
  return (QuantizeOptions){
      .format = check_format(L, 2),
      .blocks = check_blocks(L, 3),
      .stochastic = check_stochastic(L, 4),
      .known_scale = optional_tensor(L, 5),
      .scale_rounding = check_scale_rounding(L, 9),
  };
}

/* quantize(x, format, blocks, rounding, known scales, transpose, dtype of column sums, how often a whole tensor's scale
 * is wanted, rounding of scales) -> codes, scales (one a block), transposed codes, column sums: backend.h, Quantizer and
 * QuantizeOutputs; nil for the last two where they are not asked for. `blocks` is a block length, a tile {rows, columns},
 * or nil for the whole tensor; the rounding of scales "none", "power_of_two" or "mx" (core/scale.h). */
static int lfp8_quantize(lua_State *L) {
  lua_settop(L, 9);
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

/* dequantize(codes, scales, format, blocks, dtype) -> tensor */
static int lfp8_dequantize(lua_State *L) {
  const Tensor *codes = check_tensor(L, 1), *scale = check_tensor(L, 2);
  Format format = check_format(L, 3);
  Blocks blocks = check_blocks(L, 4);
  DType dtype = lua_isnoneornil(L, 5) ? DTYPE_F32 : check_dtype(L, 5);
  return finish(L, op_dequantize(new_tensor(L), codes, scale, format, blocks, dtype), 1);
}

/* fake_quantize(x, format, blocks, rounding, known scales, dtype, dtype of column sums, keep scales, rounding of
 * scales) -> x quantized and dequantized, of its own dtype if none is given; column sums, nil if not asked for; scales,
 * if to be kept */
static int lfp8_fake_quantize(lua_State *L) {
  lua_settop(L, 9);
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

/* delayed_scale(x, history, format, rounding of scales, record) -> scale (1): backend.h, delayed_scale */
static int lfp8_delayed_scale(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  Tensor *history = check_tensor(L, 2);
  Format format = check_format(L, 3);
  ScaleRounding rounding = check_scale_rounding(L, 4);
  bool record = optional_boolean(L, 5, false);
  return finish(L, op_delayed_scale(new_tensor(L), x, history, format, rounding, record), 1);
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

/* compare(row, x, values or codes or nil, scales or nil, their format, blocks): what became of x, as the words of a
 * backend.h Comparison, into an i64 row */
static int lfp8_compare(lua_State *L) {
  Tensor *row = check_tensor(L, 1);
  const Tensor *x = check_tensor(L, 2), *values = optional_tensor(L, 3), *scale = optional_tensor(L, 4);
  Format format = {0};
  if (scale) format = check_format(L, 5);
  return finish(L, op_compare(row, x, values, scale, format, check_blocks(L, 6)), 0);
}

/* compare_quantized(row, x, format, blocks, known scales, dtype of a map's values, rounding of scales): the same of what
 * quantize or fake_quantize would make of x */
static int lfp8_compare_quantized(lua_State *L) {
  lua_settop(L, 7);
  Tensor *row = check_tensor(L, 1);
  const Tensor *x = check_tensor(L, 2);
  QuantizeOptions options = {
      .format = check_format(L, 3),
      .blocks = check_blocks(L, 4),
      .known_scale = optional_tensor(L, 5),
      .dtype = lua_isnil(L, 6) ? x->dtype : check_dtype(L, 6),
      .scale_rounding = check_scale_rounding(L, 7),
  };
  return finish(L, op_compare_quantized(row, x, &options), 0);
}

const luaL_Reg quantize_functions[] = {
    {"create_map", lfp8_create_map},
    {"create_dynamic_map", lfp8_create_dynamic_map},
    {"create_linear_map", lfp8_create_linear_map},
    {"quantize", lfp8_quantize},
    {"dequantize", lfp8_dequantize},
    {"fake_quantize", lfp8_fake_quantize},
    {"delayed_scale", lfp8_delayed_scale},
    {"compare", lfp8_compare},
    {"compare_quantized", lfp8_compare_quantized},
    {"scaled_matmul", lfp8_scaled_matmul},
    {NULL, NULL},
};
