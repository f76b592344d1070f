/* Number formats as maps of 256 values. */
#include "core/formats/small.h"
#include "lua/binding/binding.h"

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

/* create_float_map(exponent_bits, mantissa_bits, bias or nil, infinity, signed) -> f32 (256) */
static int lfp8_create_float_map(lua_State *L) {
  float values[MAP_SIZE];
  FloatFormat format = {.exponent_bits = optional_int(L, 1, 0), .mantissa_bits = optional_int(L, 2, 0)};
  int usual = format.exponent_bits > 0 && format.exponent_bits < 8 ? (1 << (format.exponent_bits - 1)) - 1 : 0;
  format.bias = optional_int(L, 3, usual);
  format.infinity = optional_boolean(L, 4, false);
  format.has_sign = optional_boolean(L, 5, true);
  return push_map(L, map_create_ieee(values, &format), values);
}

static void set_number(lua_State *L, const char *name, double number) {
  lua_pushnumber(L, number);
  lua_setfield(L, -2, name);
}

/* small_formats() -> {{name =, bits =, largest =, smallest_normal =, smallest =, below =, above = values on either side of
 * 0}, …} */
static int lfp8_small_formats(lua_State *L) {
  lua_createtable(L, SMALL_FORMATS, 0);
  for (int i = 0; i < SMALL_FORMATS; i++) {
    const SmallFormat *format = &small_formats[i];
    lua_createtable(L, 0, 7);
    lua_pushstring(L, format->name);
    lua_setfield(L, -2, "name");
    set_number(L, "bits", format->bits);
    set_number(L, "largest", (double)format->largest);
    set_number(L, "smallest_normal", (double)format->smallest_normal);
    set_number(L, "smallest", (double)format->smallest);
    set_number(L, "below", format->below);
    set_number(L, "above", format->above);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

const luaL_Reg map_functions[] = {
    {"create_map", lfp8_create_map},
    {"create_dynamic_map", lfp8_create_dynamic_map},
    {"create_linear_map", lfp8_create_linear_map},
    {"create_float_map", lfp8_create_float_map},
    {"small_formats", lfp8_small_formats},
    {NULL, NULL},
};
