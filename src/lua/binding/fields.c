/* Fields of tables that are arguments. They are read without metamethods, which could run any code in the middle. */
#include <string.h>

#include "lua/binding/binding.h"

int push_field(lua_State *L, int table, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, table);
  return lua_type(L, -1);
}

void check_field_type(lua_State *L, int table, const char *name, int expected) {
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
    check_field_type(L, table, name, LUA_TNUMBER);
    fallback = lua_tonumber(L, -1);
  }
  lua_pop(L, 1);
  return fallback;
}

bool boolean_field(lua_State *L, int table, const char *name) {
  if (push_field(L, table, name) != LUA_TNIL) check_field_type(L, table, name, LUA_TBOOLEAN);
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

int choice_field(lua_State *L, int table, const char *name, const char *const *choices, const char *expected) {
  int type = push_field(L, table, name), chosen = 0;
  const char *text = type == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
  while (type != LUA_TNIL && choices[chosen] && !(text && strcmp(text, choices[chosen]) == 0)) chosen++;
  if (!choices[chosen]) argument_error(L, table, "%s, got %.40s", expected, text ? text : luaL_typename(L, -1));
  lua_pop(L, 1);
  return chosen;
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
