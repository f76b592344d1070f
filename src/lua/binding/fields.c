/* Fields of tables that are arguments. They are read without metamethods, which could run any code in the middle. */
#include <math.h>
#include <string.h>

#include "lua/binding/binding.h"

/* Pushes a field; returns its type. */
static int push_field(lua_State *L, int table, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, table);
  return lua_type(L, -1);
}

static void check_type(lua_State *L, int table, const char *name, int expected) {
  if (lua_type(L, -1) == expected) return;
  argument_error(L, table, "%s: %s expected, got %s", name, lua_typename(L, expected), luaL_typename(L, -1));
}

Tensor *optional_tensor_field(lua_State *L, int table, const char *name) {
  bool missing = push_field(L, table, name) == LUA_TNIL;
  Tensor *tensor = missing ? NULL : to_tensor(L, -1);
  if (!missing && !tensor) argument_error(L, table, "%s: tensor expected, got %s", name, luaL_typename(L, -1));
  if (tensor && !tensor->storage) {
    argument_error(L, table, "%s: this tensor was freed: it was made in a scope that has ended", name);
  }
  lua_pop(L, 1);
  return tensor;
}

Tensor *tensor_field(lua_State *L, int table, const char *name) {
  Tensor *tensor = optional_tensor_field(L, table, name);
  if (!tensor) argument_error(L, table, "%s: tensor expected, got nothing", name);
  return tensor;
}

double number_field(lua_State *L, int table, const char *name, double fallback) {
  if (push_field(L, table, name) != LUA_TNIL) {
    check_type(L, table, name, LUA_TNUMBER);
    fallback = lua_tonumber(L, -1);
  }
  lua_pop(L, 1);
  return fallback;
}

bool boolean_field(lua_State *L, int table, const char *name) {
  if (push_field(L, table, name) != LUA_TNIL) check_type(L, table, name, LUA_TBOOLEAN);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

bool dtype_field(lua_State *L, int table, const char *name, DType *dtype) {
  bool given = push_field(L, table, name) != LUA_TNIL;
  if (given) *dtype = read_dtype(L, -1, table);
  lua_pop(L, 1);
  return given;
}

/* --- operands --- */

static Format format_field(lua_State *L, int table) {
  Format format = {0};
  int type = push_field(L, table, "format");
  if (type == LUA_TUSERDATA) {
    lua_pop(L, 1);
    format.map = tensor_field(L, table, "format");
    return format;
  }
  if (type != LUA_TSTRING) {
    argument_error(L, table, "map or name of a float8 type expected, got %s",
                   type == LUA_TNIL ? "nothing" : luaL_typename(L, -1));
  }
  const char *name = lua_tostring(L, -1);
  if (!dtype_parse(name, &format.hardware) || !dtype_is_float8(format.hardware)) {
    argument_error(L, table, "format '%.40s' is not e4m3 or e5m2", name);
  }
  lua_pop(L, 1);
  return format;
}

/* A side of the tile on top of the stack. */
static int64_t tile_side(lua_State *L, int table, int position) {
  lua_rawgeti(L, -1, position);
  double side = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
  if (!number_is_whole(side) || side < 1) {
    argument_error(L, table, "a tile must be {rows, columns}, whole numbers of at least 1");
  }
  lua_pop(L, 1);
  return (int64_t)side;
}

/* A blocksize, a tile {rows, columns}, or nil for the whole tensor. */
static Blocks blocks_field(lua_State *L, int table) {
  Blocks blocks = {0};
  int type = push_field(L, table, "blocksize");
  if (type == LUA_TTABLE) {
    if (lua_objlen(L, -1) != 2) argument_error(L, table, "a tile must be {rows, columns}");
    blocks = (Blocks){.rows = tile_side(L, table, 1), .columns = tile_side(L, table, 2)};
  } else if (type != LUA_TNIL) {
    check_type(L, table, "blocksize", LUA_TNUMBER);
    double length = lua_tonumber(L, -1);
    if (!number_is_whole(length)) argument_error(L, table, "blocksize: whole number expected, got %.14g", length);
    if (length < 1) argument_error(L, table, "blocksize must be at least 1, got %.14g", length);
    blocks.length = (int64_t)length;
  }
  lua_pop(L, 1);
  return blocks;
}

/* The position in `choices` of a field that is one of them; the first one's if there is none. */
static int choice_field(lua_State *L, int table, const char *name, const char *const *choices, const char *expected) {
  int type = push_field(L, table, name), chosen = 0;
  const char *text = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  while (type != LUA_TNIL && choices[chosen] && !(text && strcmp(text, choices[chosen]) == 0)) chosen++;
  if (!choices[chosen]) argument_error(L, table, "%s, got %.40s", expected, text ? text : luaL_typename(L, -1));
  lua_pop(L, 1);
  return chosen;
}

QuantizeOptions check_quantize_options(lua_State *L, int table) {
  static const char *const roundings[] = {"nearest", "stochastic", NULL};
  static const char *const scale_roundings[] = {
      [SCALE_EXACT] = "none", [SCALE_POWER_OF_TWO] = "power_of_two", [SCALE_MX] = "mx", NULL};
  check_table(L, table);
  return (QuantizeOptions){
      .format = format_field(L, table),
      .blocks = blocks_field(L, table),
      .stochastic = choice_field(L, table, "rounding", roundings, "rounding must be 'nearest' or 'stochastic'") == 1,
      .scale_rounding = (ScaleRounding)choice_field(L, table, "scale_rounding", scale_roundings,
                                                    "scale rounding must be 'none', 'power_of_two' or 'mx'"),
      .dtype = DTYPE_F32,
  };
}

/* --- results and lists --- */

Tensor *new_tensor_field(lua_State *L, const char *name, bool wanted) {
  if (!wanted) return NULL;
  Tensor *tensor = new_tensor(L);
  lua_setfield(L, -2, name);
  return tensor;
}

Tensor *list_element(lua_State *L, int table, int position, bool optional) {
  lua_rawgeti(L, table, position);
  Tensor *tensor = to_tensor(L, -1);
  if (!tensor && !(optional && lua_isboolean(L, -1) && !lua_toboolean(L, -1))) {
    argument_error(L, table, "element %d: tensor%s expected, got %s", position, optional ? " or false" : "",
                   luaL_typename(L, -1));
  }
  if (tensor && !tensor->storage) {
    argument_error(L, table, "element %d: this tensor was freed: it was made in a scope that has ended", position);
  }
  lua_pop(L, 1);
  return tensor;
}
