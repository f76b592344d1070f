/* luaopen_fp8_core: the state, the table of functions, and how their errors are raised. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/process.h"
#include "lua/binding/binding.h"

/* The registry key of the state. */
static const char state_key;

/* The first upvalue of every function; the second is the tensors' metatable. */
typedef struct Function {
  const luaL_Reg *entry;
  State *state;
} Function;

static const Function *running_function(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

/* So many calls are under way. */
static void set_depth(const State *state, int depth) {
  state->context->calls = depth;
  state->context->call = depth > 0 ? state->calls[depth - 1].number : 0;
}

static int call(lua_State *L) {
  const Function *function = running_function(L);
  State *state = function->state;
  if (!state->context) return luaL_error(L, "%s: this Lua state is being closed", function->entry->name);
  if (process_lost_threads()) {
    return luaL_error(L,
                      "%s: this process was forked from one in which fp8 had started threads or opened a device, "
                      "which are not in it: start a new process instead",
                      function->entry->name);
  }
  const char *frame = __builtin_frame_address(0);
  int depth = state->context->calls;
  while (depth > 0 && state->calls[depth - 1].frame <= frame) depth--;
  if (depth == CALLS_MOST) return luaL_error(L, "%s: too many calls inside one another", function->entry->name);
  Context *context = state->context, *outer = context_enter(context);
  state->calls[depth] = (Call){++state->last_call, L, frame, outer};
  set_depth(state, depth + 1);
  int results = function->entry->func(L);
  set_depth(state, depth);
  context_enter(outer);
  return results;
}

/* The running call ends in an error. */
static void leave_call(const State *state) {
  int depth = state->context->calls - 1;
  if (depth < 0) return;
  Context *outer = state->calls[depth].outer;
  set_depth(state, depth);
  context_enter(outer);
}

int call_protected(lua_State *L, int arguments, int results) {
  const State *state = state_now();
  int calls = state->context->calls;
  int status = lua_pcall(L, arguments, results, 0);
  set_depth(state, calls); /* an error that is not fp8's leaves those that it ended */
  context_enter(state->context);
  return status;
}

int raise_again(lua_State *L) {
  leave_call(state_now());
  return lua_error(L);
}

void set_finalizer(lua_State *L, const char *name, lua_CFunction function) {
  lua_pushnil(L);
  luaL_getmetatable(L, "fp8.Tensor");
  lua_pushcclosure(L, function, 2);
  lua_setfield(L, -2, "__gc");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__metatable");
}

/* Adds functions to the table on top of the stack. */
static void register_functions(lua_State *L, State *state, const luaL_Reg *functions) {
  for (; functions->name; functions++) {
    Function *function = lua_newuserdata(L, sizeof *function);
    *function = (Function){functions, state};
    luaL_getmetatable(L, "fp8.Tensor");
    lua_pushcclosure(L, call, 2);
    lua_setfield(L, -2, functions->name);
  }
}

/* --- the state --- */

static int collect_all(lua_State *L) {
  lua_gc(L, LUA_GCCOLLECT, 0);
  return 0;
}

/* Protected: an error in somebody's finalizer must not jump over the operation that allocates. */
static void collect_garbage(void *owner) {
  const State *state = owner;
  if (state->context->calls == 0) return;
  lua_State *L = state->calls[state->context->calls - 1].L;
  if (lua_cpcall(L, collect_all, NULL) != 0) lua_pop(L, 1);
}

/* Lua's own memory: where there is no more, what the CPU's cache keeps is given back first. */
static void *allocate_for_lua(void *owner, void *data, size_t before, size_t bytes) {
  const State *state = owner;
  void *result = state->lua_allocate(state->lua_arena, data, before, bytes);
  if (result || bytes == 0) return result;
  host_trim();
  return state->lua_allocate(state->lua_arena, data, before, bytes);
}

/* What calls fp8 from here on gets an error; tensors that are still to be finalized keep the context alive. */
static int close_state(lua_State *L) {
  State *state = lua_touserdata(L, lua_upvalueindex(1));
  drop_scopes(state);
  context_close(state->context);
  state->context = NULL;
  lua_setallocf(L, state->lua_allocate, state->lua_arena); /* LuaJIT frees its arena only by its own */
  return 0;
}

/* Pushes a userdata whose finalizer is `close`, with the state, or the userdata itself, as upvalue. */
static void *push_closing(lua_State *L, size_t bytes, State *state, lua_CFunction close) {
  void *object = lua_newuserdata(L, bytes);
  lua_createtable(L, 0, 1);
  lua_pushlightuserdata(L, state ? state : object);
  lua_pushcclosure(L, close, 1);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return object;
}

/* The Lua state is being closed, which finalizes everything in it; what is made now is finalized last, and other
 * finalizers may use fp8 until then. */
static int prepare_close(lua_State *L) {
  push_closing(L, 0, lua_touserdata(L, lua_upvalueindex(1)), close_state);
  return 0;
}

/* The Lua state's State, made when fp8.core is first loaded in it. */
static State *open_state(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&state_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  State *state = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (state) return state;
  lua_pushlightuserdata(L, (void *)&state_key);
  Context *context = process_watch_forks() ? context_create() : NULL;
  if (!context) luaL_error(L, "fp8: out of memory");
  state = push_closing(L, sizeof *state, NULL, prepare_close);
  memset(state, 0, sizeof *state);
  state->context = context;
  context->owner = state;
  context->collect = collect_garbage;
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, state);
  state->lenders = lua_newthread(L);
  lua_rawset(L, LUA_REGISTRYINDEX);
  state->lua_allocate = lua_getallocf(L, &state->lua_arena);
  lua_setallocf(L, allocate_for_lua, state);
  return state;
}

/* --- errors --- */

static bool is_user_code(const State *state, const lua_Debug *frame) {
  if (frame->currentline <= 0) return false;
  return state->source_prefix[0] == '\0' ||
         strncmp(frame->source, state->source_prefix, strlen(state->source_prefix)) != 0;
}

/* In the registry: the functions that scripts call operations by, and their names. */
static const char public_names_key = 0;

static void push_public_names(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&public_names_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
}

/* "inner: argument 2: text" at `message` becomes "name: text": of what an operation is composed of, and what it passed
 * on, its caller knows nothing. */
static void rename_error(lua_State *L, int message, const char *name) {
  size_t length;
  const char *text = lua_tolstring(L, message, &length), *rest = text ? strstr(text, ": ") : NULL;
  if (!rest || strcspn(text, " :") != (size_t)(rest - text)) return;
  if (strlen(name) == (size_t)(rest - text) && strncmp(text, name, strlen(name)) == 0) return;
  rest += 2;
  int digits = 0;
  if (sscanf(rest, "argument %*d: %n", &digits) == 0) rest += digits;
  lua_pushfstring(L, "%s: ", name);
  lua_pushlstring(L, rest, length - (size_t)(rest - text));
  lua_concat(L, 2);
  lua_replace(L, message);
}

int raise_at_caller(lua_State *L) {
  lua_Debug frame;
  int message = lua_gettop(L), names = message + 1, name = message + 2;
  luaL_checkstack(L, 5, NULL);
  push_public_names(L);
  lua_pushnil(L);
  for (int level = 0; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (is_user_code(state_now(), &frame)) {
      if (lua_isstring(L, name)) rename_error(L, message, lua_tostring(L, name));
      lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
      lua_pushvalue(L, message);
      lua_concat(L, 2);
      lua_replace(L, message);
      break;
    }
    if (frame.currentline <= 0 || !lua_istable(L, names)) continue;
    lua_getinfo(L, "f", &frame);
    lua_rawget(L, names);
    if (lua_isnil(L, -1))
      lua_pop(L, 1);
    else
      lua_replace(L, name);
  }
  lua_settop(L, message);
  return raise_again(L);
}

int argument_error(lua_State *L, int index, const char *format, ...) {
  char text[ERROR_TEXT_MAX];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  lua_pushfstring(L, "%s: argument %d: %s", running_function(L)->entry->name, index, text);
  return raise_at_caller(L);
}

void push_error(lua_State *L) {
  char text[ERROR_TEXT_MAX];
  snprintf(text, sizeof text, "%s", error_message());
  lua_pushstring(L, text);
}

int finish(lua_State *L, bool ok, int results) {
  if (ok) return results;
  if (context_stops(context_now)) {
    push_interruption(L);
    return raise_again(L);
  }
  push_error(L);
  lua_pushfstring(L, "%s: %s", running_function(L)->entry->name, lua_tostring(L, -1));
  return raise_at_caller(L);
}

/* --- functions --- */

/* raise(message): an error at the innermost line outside lua/fp8. */
static int lfp8_raise(lua_State *L) {
  luaL_checkstring(L, 1);
  lua_settop(L, 1);
  return raise_at_caller(L);
}

/* set_source_prefix(prefix): how the `source` of lua/fp8's own chunks begins. */
static int lfp8_set_source_prefix(lua_State *L) {
  State *state = state_now();
  snprintf(state->source_prefix, sizeof state->source_prefix, "%s", luaL_checkstring(L, 1));
  return 0;
}

/* set_public_names(names): the functions that scripts call operations by, as keys, and their names, which errors have. */
static int lfp8_set_public_names(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_pushlightuserdata(L, (void *)&public_names_key);
  lua_pushvalue(L, 1);
  lua_rawset(L, LUA_REGISTRYINDEX);
  return 0;
}

const luaL_Reg module_functions[] = {
    {"raise", lfp8_raise},
    {"set_source_prefix", lfp8_set_source_prefix},
    {"set_public_names", lfp8_set_public_names},
    {NULL, NULL},
};

/* --- what scripts learn of the types below them --- */

/* Pushes {NAME = {size = bytes of an element, kind = "float", "float8" or "integer"}, …}. */
static void push_dtypes(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; i < DTYPE_COUNT; i++) {
    DType dtype = (DType)i;
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, (lua_Integer)dtype_size(dtype));
    lua_setfield(L, -2, "size");
    lua_pushstring(L, dtype_class_name(dtype_class(dtype)));
    lua_setfield(L, -2, "kind");
    lua_setfield(L, -2, dtype_name(dtype));
  }
}

/* Fields beside the functions: metatable, of all tensors, which lua/fp8/tensor.lua takes away; dtypes; comparison_words, the elements of a row that `compare`
 * writes. */
FP8_API int luaopen_fp8_core(lua_State *L) {
  static const luaL_Reg *const families[] = {
      argument_functions,      attention_functions, change_functions,      compare_functions,
      copy_functions,          count_functions,     create_functions,      cross_entropy_functions,
      delayed_scale_functions, device_functions,    distributed_functions, dropout_functions,
      elementwise_functions,   embedding_functions, event_functions,       exchange_functions,
      graph_functions,         index_functions,     interrupt_functions,   join_functions,
      map_functions,           matmul_functions,    module_functions,      normalize_functions,
      optim_functions,         patches_functions,   quantize_functions,    random_functions,
      recurrent_functions,     reduce_functions,    rotate_functions,      scaled_matmul_functions,
      scan_functions,          scope_functions,     search_functions,      select_functions,
      softmax_functions,       sort_functions,      tensor_functions,      userdata_functions,
      fitted_scale_functions,  view_functions,
  };
  State *state = open_state(L);
  Context *outer = context_enter(state->context);
  bool opened = op_backend_open("cpu", NULL);
  context_enter(outer);
  if (!opened) return luaL_error(L, "fp8: the CPU can't be used");
  open_userdata(L);
  open_numbers(L);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) register_functions(L, state, families[i]);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "metatable");
  push_dtypes(L);
  lua_setfield(L, -2, "dtypes");
  lua_pushinteger(L, COMPARISON_WORDS);
  lua_setfield(L, -2, "comparison_words");
  return 1;
}
