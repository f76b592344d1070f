#include <string.h>

#include "lua/binding/binding.h"

void *new_object(lua_State *L, size_t bytes, const char *name, lua_CFunction collect) {
  void *object = lua_newuserdata(L, bytes);
  memset(object, 0, bytes);
  if (luaL_newmetatable(L, name)) {
    set_finalizer(L, name, collect);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  return object;
}

void *to_object(lua_State *L, int index, const char *name) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  luaL_getmetatable(L, name);
  bool is_one = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_one ? lua_touserdata(L, index) : NULL;
}
