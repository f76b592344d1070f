/* luaopen_fp8_core: the table of functions, and how their errors are raised. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lua/binding.h"

/* Lua code whose source begins with this is part of fp8: errors are raised above it. */
static char source_prefix[1024];

/* Upvalues of every function: its luaL_Reg entry, then the tensors' metatable. */
static const luaL_Reg *running_function(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* The state whose function runs, which is where a collection has to happen. */
static lua_State *running_state;

CallNumbers call_numbers;

static int call(lua_State *L) {
  static uint64_t last;
  CallNumbers before = call_numbers;
  running_state = L;
  call_numbers = (CallNumbers){.running = ++last, .interrupted = before.running};
  int results = running_function(L)->func(L);
  call_numbers = before;
  return results;
}

static int collect_all(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

/* Protected: an error in somebody's finalizer must not jump over the operation that allocates. */
static void collect_garbage(void *context) {
  (void)context;
  if (running_state && lua_cpcall(running_state, collect_all, NULL) != 0) lua_pop(running_state, 1);
}

void register_functions(lua_State *L, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    lua_pushlightuserdata(L, (void *)functions);
    luaL_getmetatable(L, "fp8.Tensor");
    lua_pushcclosure(L, call, 2);
    lua_setfield(L, -2, functions->name);
  }
}

static bool is_user_code(const lua_Debug *frame) {
  if (frame->currentline <= 0) return false;
  return source_prefix[0] == '\0' || strncmp(frame->source, source_prefix, strlen(source_prefix)) != 0;
}

int raise_at_caller(lua_State *L) {
  lua_Debug frame;
  for (int level = 0; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (is_user_code(&frame)) {
      lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
      lua_insert(L, -2);
      lua_concat(L, 2);
      break;
    }
  }
  return lua_error(L);
}

int argument_error(lua_State *L, int index, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  lua_pushfstring(L, "%s: argument %d: %s", running_function(L)->name, index, text);
  return raise_at_caller(L);
}

int finish(lua_State *L, bool ok, int results) {
  if (ok) return results;
  lua_pushfstring(L, "%s: %s", running_function(L)->name, error_message());
  return raise_at_caller(L);
}

/* raise(message): an error at the innermost line outside lua/fp8. */
static int lfp8_raise(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  return raise_at_caller(L);
}

/* call(f, …) -> what f returns. No coroutine can yield out of f, through a C function. */
static int lfp8_call(lua_State *L) {
  if (!lua_isfunction(L, 1)) argument_error(L, 1, "function expected, got %s", luaL_typename(L, 1));
  lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
  return lua_gettop(L);
}

/* set_source_prefix(prefix): how the `source` of lua/fp8's own chunks begins. */
static int lfp8_set_source_prefix(lua_State *L) {
  snprintf(source_prefix, sizeof source_prefix, "%s", luaL_checkstring(L, 1));
  return 0;
}

static const luaL_Reg module_functions[] = {
    {"raise", lfp8_raise},
    {"call", lfp8_call},
    {"set_source_prefix", lfp8_set_source_prefix},
    {NULL, NULL},
};

FP8_API int luaopen_fp8_core(lua_State *L) {
  memory_set_collector(collect_garbage, NULL);
  open_box(L);
  lua_newtable(L);
  register_functions(L, module_functions);
  register_functions(L, box_functions);
  register_functions(L, argument_functions);
  register_functions(L, create_functions);
  register_functions(L, fact_functions);
  register_functions(L, view_functions);
  register_functions(L, compute_functions);
  register_functions(L, layer_functions);
  register_functions(L, attention_functions);
  register_functions(L, quantize_functions);
  register_functions(L, optimizer_functions);
  register_functions(L, graph_functions);
  register_functions(L, device_functions);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "metatable");
  return 1;
}
