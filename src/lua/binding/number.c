/* Numbers and integers of 64 bits, which LuaJIT's FFI has as int64_t and uint64_t. */
#include <stdlib.h>
#include <string.h>

#include "lua/binding/binding.h"

/* The registry key of the type int64_t. */
static const char type_key;

void open_numbers(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&type_key);
  lua_getglobal(L, "require");
  lua_pushstring(L, "ffi");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "typeof");
  lua_remove(L, -2);
  lua_pushstring(L, "int64_t");
  lua_call(L, 1, 1);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Lua's C API knows nothing of these types, but their text is like no other's: 5LL or 5ULL. */
static bool read_integer(lua_State *L, int index, int argument, Number *number) {
  if (lua_isnone(L, index) || strcmp(luaL_typename(L, index), "cdata") != 0) return false;
  if (!luaL_callmeta(L, index, "__tostring")) return false;
  const char *text = plain_text(L, -1);
  char *end = NULL;
  int64_t integer = text ? strtoll(text, &end, 10) : 0;
  bool is_integer = end && end != text && strcmp(end, "LL") == 0;
  if (end && end != text && strcmp(end, "ULL") == 0) {
    is_integer = true;
    integer = (int64_t)strtoull(text, NULL, 10);
    if (integer < 0) {
      argument_error(L, argument, "integers go up to %lld, got %.20s", (long long)INT64_MAX, text);
    }
  }
  lua_pop(L, 1);
  if (is_integer) *number = number_of_integer(integer);
  return is_integer;
}

bool to_number(lua_State *L, int index, int argument, Number *number) {
  if (lua_type(L, index) != LUA_TNUMBER) return read_integer(L, index, argument, number);
  *number = number_of(lua_tonumber(L, index));
  return true;
}

static void no_number(lua_State *L, int index) {
  argument_error(L, index, "number expected, got %s", lua_isnone(L, index) ? "nothing" : luaL_typename(L, index));
}

Number check_number(lua_State *L, int index) {
  Number number = {0};
  if (!to_number(L, index, index, &number)) no_number(L, index);
  return number;
}

double check_double(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TNUMBER) no_number(L, index);
  return lua_tonumber(L, index);
}

int64_t check_whole(lua_State *L, int index) {
  double value = check_double(L, index);
  if (!number_is_whole(value)) argument_error(L, index, "whole number expected, got %.14g", value);
  return (int64_t)value;
}

int64_t check_integer(lua_State *L, int index) {
  return lua_type(L, index) == LUA_TNUMBER ? check_whole(L, index) : check_number(L, index).integer;
}

void push_integer(lua_State *L, int64_t integer) {
  if (integer == int64_clamp(integer, -(int64_t)NUMBER_WHOLE_MOST, (int64_t)NUMBER_WHOLE_MOST)) {
    lua_pushnumber(L, (double)integer);
    return;
  }
  lua_pushlightuserdata(L, (void *)&type_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  lua_call(L, 0, 1);
  memcpy((void *)lua_topointer(L, -1), &integer, sizeof integer);
}
