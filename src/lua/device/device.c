/* Devices, their memory, and whether their results depend on more than the inputs. */
#include "lua/binding/binding.h"

/* backend_open(name of its devices, path of the backend's library) -> true, or false and the reason */
static int lfp8_backend_open(lua_State *L) {
  bool opened = op_backend_open(luaL_checkstring(L, 1), luaL_checkstring(L, 2));
  lua_pushboolean(L, opened);
  if (opened) return 1;
  push_error(L);
  return 2;
}

/* device_count(name) -> number of devices of this kind; 0 before backend_open */
static int lfp8_device_count(lua_State *L) {
  lua_pushinteger(L, op_device_count(luaL_checkstring(L, 1)));
  return 1;
}

/* device_name(device) -> its full name: "cuda:0" for "cuda" */
static int lfp8_device_name(lua_State *L) {
  char name[DEVICE_NAME_MAX];
  lua_pushstring(L, device_name(check_device(L, 1), name));
  return 1;
}

/* synchronize(device): waits for the device's work and raises what failed in it */
static int lfp8_synchronize(lua_State *L) {
  Device device = check_device(L, 1);
  return finish(L, op_synchronize(device), 0);
}

/* memory(device) -> {in_use =, peak =, cached =}, in bytes */
static int lfp8_memory(lua_State *L) {
  MemoryStatistics statistics = memory_statistics(check_device(L, 1));
  lua_createtable(L, 0, 3);
  lua_pushnumber(L, (double)statistics.in_use);
  lua_setfield(L, -2, "in_use");
  lua_pushnumber(L, (double)statistics.peak);
  lua_setfield(L, -2, "peak");
  lua_pushnumber(L, (double)statistics.cached);
  lua_setfield(L, -2, "cached");
  return 1;
}

/* reset_peak_memory(device): the peak starts anew from what is in use */
static int lfp8_reset_peak_memory(lua_State *L) {
  memory_reset_peak(check_device(L, 1));
  return 0;
}

/* set_deterministic(boolean): operations give the same bits whatever the number of the CPU's threads, and in every run
 * on a GPU of one kind with one version of CUDA, at some cost. A graph keeps what was set when it was captured. */
static int lfp8_set_deterministic(lua_State *L) {
  if (!lua_isboolean(L, 1)) argument_error(L, 1, "boolean expected, got %s", luaL_typename(L, 1));
  op_set_deterministic(lua_toboolean(L, 1));
  return 0;
}

/* is_deterministic() -> what was set; at first false */
static int lfp8_is_deterministic(lua_State *L) {
  lua_pushboolean(L, op_is_deterministic());
  return 1;
}

const luaL_Reg device_functions[] = {
    {"backend_open", lfp8_backend_open},
    {"device_count", lfp8_device_count},
    {"device_name", lfp8_device_name},
    {"synchronize", lfp8_synchronize},
    {"memory", lfp8_memory},
    {"reset_peak_memory", lfp8_reset_peak_memory},
    {"set_deterministic", lfp8_set_deterministic},
    {"is_deterministic", lfp8_is_deterministic},
    {NULL, NULL},
};
