/* Fields of tables that are arguments. They are read without metamethods, which could run any code in the middle. */
#include <string.h>

#include "lua/binding/binding.h"

bool next_field(lua_State *L, int table, const char **name) {
  if (!lua_next(L, table)) return false;
  if (lua_type(L, -2) != LUA_TSTRING) {
    argument_error(L, table, "only fields with names are possible, got one whose key is a %s", luaL_typename(L, -2));
  }
  *name = plain_text(L, -2);
  if (!*name) argument_error(L, table, "unknown field '%.40s' with a zero byte", lua_tostring(L, -2));
  return true;
}

int unknown_field(lua_State *L, int table, const char *name, const char *known) {
  return argument_error(L, table, "unknown field '%.40s': there are %s", name, known);
}

void check_fields(lua_State *L, int table, const char *const *names) {
  check_table(L, table);
  const char *name;
  for (lua_pushnil(L); next_field(L, table, &name); lua_pop(L, 1)) {
    int known = 0;
    while (names[known] && strcmp(names[known], name) != 0) known++;
    if (names[known]) continue;
    lua_pushstring(L, names[0]);
    for (int i = 1; names[i]; i++) lua_pushfstring(L, ", %s", names[i]), lua_concat(L, 2);
    unknown_field(L, table, name, lua_tostring(L, -1));
  }
}

int push_field(lua_State *L, int table, const char *name) {
  lua_pushstring(L, name);
  lua_rawget(L, table);
  return lua_type(L, -1);
}

void check_field_type(lua_State *L, int table, const char *name, int expected) {
  if (lua_type(L, -1) == expected) return;
  argument_error(L, table, "%s: %s expected, got %s", name, lua_typename(L, expected), luaL_typename(L, -1));
}

Tensor *tensor_of_field(lua_State *L, int table, const char *name) {
  Tensor *tensor = to_tensor(L, -1);
  if (!tensor) argument_error(L, table, "%s: tensor expected, got %s", name, luaL_typename(L, -1));
  if (!tensor->storage) {
    argument_error(L, table, "%s: this tensor was freed: it was made in a scope that has ended", name);
  }
  return tensor;
}

Tensor *optional_tensor_field(lua_State *L, int table, const char *name) {
  luaL_checkstack(L, 2, name);
  return push_field(L, table, name) == LUA_TNIL ? NULL : tensor_of_field(L, table, name);
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

bool boolean_of_field(lua_State *L, int table, const char *name) {
  check_field_type(L, table, name, LUA_TBOOLEAN);
  return lua_toboolean(L, -1);
}

bool boolean_field(lua_State *L, int table, const char *name) {
  bool value = push_field(L, table, name) != LUA_TNIL && boolean_of_field(L, table, name);
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
  const char *text = plain_text(L, -1);
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

Tensor **check_tensor_list(lua_State *L, int table, int count, bool optional) {
  lua_createtable(L, count, 0);
  int copy = lua_gettop(L);
  Tensor **list = lua_newuserdata(L, ((size_t)count + 1) * sizeof *list);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, table, i + 1);
    Tensor *tensor = to_tensor(L, -1);
    if (!tensor && !(optional && lua_isboolean(L, -1) && !lua_toboolean(L, -1))) {
      argument_error(L, table, "element %d: tensor%s expected, got %s", i + 1, optional ? " or false" : "",
                     luaL_typename(L, -1));
    }
    if (tensor && !tensor->storage) {
      argument_error(L, table, "element %d: this tensor was freed: it was made in a scope that has ended", i + 1);
    }
    list[i] = tensor;
    lua_rawseti(L, copy, i + 1);
  }
  return list;
}
