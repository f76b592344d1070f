/* libFuzzer over fp8's readers, which are Lua: `make fuzz` builds and runs it, usage
 *
 *   fuzzer --reader=NAME --directory=FOLDER [options of libFuzzer] CORPUS...
 *
 * One Lua state reads all inputs, with the JIT compiler off. spec/fuzz/start.lua says what is done with an input; an
 * error that it lets through is a finding. What libFuzzer sees as covered is fp8's C code, which clang has instrumented,
 * and steps from line to line of lua/fp8, which a hook counts. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

enum {
  STEPS = 1 << 14,             /* counters of steps from line to line, which share them where hashes collide */
  FILES = 128,                 /* of lua/fp8 */
  LINES = 1024,                /* of the longest one */
  LUA_BYTES = 64 * 1024 * 1024 /* that Lua may have: twenty times what fp8 and the largest input need */
};

__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t steps[STEPS];

static struct {
  const char *source; /* Lua's own copy of the name, of which there is one for each file */
  bool is_covered[LINES];
} files[FILES];

static lua_State *state;
static size_t lua_bytes;
static uint32_t last_place;

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* Lua's objects come from malloc, where the address sanitizer watches over them. */
static void *allocate(void *unused, void *old, size_t old_size, size_t new_size) {
  (void)unused;
  if (new_size > old_size && lua_bytes + (new_size - old_size) > LUA_BYTES) return NULL;
  void *result = NULL;
  if (new_size > 0) {
    result = realloc(old, new_size);
    if (result == NULL) return NULL;
  } else {
    free(old);
  }
  lua_bytes += new_size - old_size;
  return result;
}

/* The number of a file of lua/fp8, or -1 for other code. */
static int find_file(lua_State *L, const char *source) {
  for (int i = 0; i < FILES; i++) {
    if (files[i].source == source) return i;
    if (files[i].source == NULL) {
      if (strncmp(source, "@lua/fp8/", 9) != 0) return -1;
      lua_pushstring(L, source);
      luaL_ref(L, LUA_REGISTRYINDEX); /* stays where it is */
      files[i].source = source;
      return i;
    }
  }
  abort();
}

static void on_line(lua_State *L, lua_Debug *where) {
  lua_getinfo(L, "S", where);
  int file = find_file(L, where->source);
  if (file < 0 || where->currentline < 0 || where->currentline >= LINES) return;
  files[file].is_covered[where->currentline] = true;
  uint32_t place = ((uint32_t)file * LINES + (uint32_t)where->currentline) * 2654435761u;
  uint8_t *step = &steps[(place ^ last_place) >> 18];
  if (*step < UINT8_MAX) (*step)++;
  last_place = place >> 1;
}

/* is_covered(source, line) in Lua, where source is a name such as "@lua/fp8/files/json.lua". */
static int is_covered(lua_State *L) {
  const char *source = luaL_checkstring(L, 1);
  int line = luaL_checkint(L, 2);
  bool found = false;
  for (int i = 0; i < FILES && files[i].source != NULL; i++) {
    if (strcmp(files[i].source, source) == 0 && line >= 0 && line < LINES) found = files[i].is_covered[line];
  }
  lua_pushboolean(L, found);
  return 1;
}

/* mutate_bytes(text, longest) in Lua: libFuzzer's own mutations. */
static int mutate_bytes(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  size_t longest = (size_t)luaL_checkinteger(L, 2);
  if (size > longest) size = longest;
  uint8_t *bytes = lua_newuserdata(L, longest + 1);
  memcpy(bytes, text, size);
  lua_pushlstring(L, (const char *)bytes, LLVMFuzzerMutate(bytes, size, longest));
  return 1;
}

static const char *argument(int count, char **arguments, const char *name) {
  size_t length = strlen(name);
  for (int i = 1; i < count; i++) {
    if (strncmp(arguments[i], name, length) == 0) return arguments[i] + length;
  }
  fprintf(stderr, "fuzzer: %s is missing\n", name);
  exit(2);
}

static void fail(lua_State *L) {
  fprintf(stderr, "== FINDING: %s\n", lua_tostring(L, -1));
  abort();
}

/* Calls a function that start.lua returned, with what is on the stack. */
static void call(lua_State *L, int arguments, int results) {
  if (lua_pcall(L, arguments, results, 1) != 0) fail(L);
}

/* Prints what start.lua says in the end, and leaves nothing that the leak sanitizer would find. */
static void finish(void) {
  lua_sethook(state, NULL, 0, 0);
  lua_getfield(state, 2, "finish");
  call(state, 0, 0);
  lua_close(state);
  state = NULL;
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
  lua_State *L = state = lua_newstate(allocate, NULL);
  if (L == NULL) return fprintf(stderr, "fuzzer: no Lua state\n"), 1;
  luaL_openlibs(L);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  lua_sethook(L, on_line, LUA_MASKLINE, 0);
  lua_getglobal(L, "debug");
  lua_getfield(L, -1, "traceback");
  lua_remove(L, -2);
  if (luaL_loadfile(L, "spec/fuzz/start.lua") != 0) fail(L);
  lua_pushstring(L, argument(*count, *arguments, "--reader="));
  lua_pushstring(L, argument(*count, *arguments, "--directory="));
  lua_pushcfunction(L, is_covered);
  lua_pushcfunction(L, mutate_bytes);
  call(L, 4, 1); /* the traceback stays at 1, the table of functions at 2 */
  atexit(finish);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  last_place = 0;
  lua_getfield(state, 2, "run");
  lua_pushlstring(state, (const char *)data, size);
  call(state, 1, 0);
  return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
  lua_sethook(state, NULL, 0, 0);
  lua_getfield(state, 2, "mutate");
  lua_pushlstring(state, (const char *)data, size);
  lua_pushinteger(state, (lua_Integer)max_size);
  lua_pushinteger(state, (lua_Integer)seed);
  call(state, 3, 1);
  size_t new_size;
  const char *mutated = lua_tolstring(state, -1, &new_size);
  if (new_size > max_size) new_size = max_size;
  memcpy(data, mutated, new_size);
  lua_pop(state, 1);
  lua_sethook(state, on_line, LUA_MASKLINE, 0);
  return new_size;
}
