/* Changes that are undone, or made all at once, whatever happens: memory that runs out, or the error that a debug hook
 * raises at any instruction of Lua's, which is how Ctrl-C reaches a script. */
#include "lua/binding/binding.h"

/* with(table, key, value, f, …) -> what f returns: table[key], which must not be nil before, is `value`, which must
 * not be nil either, while f(…) runs, and then again what it was. */
static int lfp8_with(lua_State *L) {
  check_table(L, 1);
  if (!lua_isfunction(L, 4)) argument_error(L, 4, "function expected, got %s", luaL_typename(L, 4));
  lua_pushvalue(L, 2);
  lua_rawget(L, 1);
  if (lua_isnil(L, -1) || lua_isnil(L, 3)) argument_error(L, 2, "the field must have a value, and get one");
  enum { BEFORE = 4, FIRST = 7 };
  lua_insert(L, BEFORE);
  for (int i = BEFORE + 1; i < FIRST; i++) {
    lua_pushnil(L);
    lua_insert(L, i);
  }
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 3);
  lua_rawset(L, 1);
  bool failed = call_protected(L, lua_gettop(L) - FIRST, LUA_MULTRET) != 0;
  /* Putting something on a full stack could fail: two of many results make room. */
  bool full = lua_gettop(L) >= FIRST + 2;
  if (full) {
    lua_replace(L, BEFORE + 1);
    lua_replace(L, BEFORE + 2);
  }
  lua_pushvalue(L, 2);
  lua_pushvalue(L, BEFORE);
  lua_rawset(L, 1);
  if (full) {
    lua_pushvalue(L, BEFORE + 2);
    lua_pushvalue(L, BEFORE + 1);
  }
  return failed ? raise_again(L) : lua_gettop(L) - FIRST + 1;
}

/* finally(clean, f, …) -> what f returns; calls clean() after f(…), whatever happens in f, and again if an error ends it,
 * so that it has to be able to bear that. */
static int lfp8_finally(lua_State *L) {
  for (int i = 1; i <= 2; i++) {
    if (!lua_isfunction(L, i)) argument_error(L, i, "function expected, got %s", luaL_typename(L, i));
  }
  bool failed = call_protected(L, lua_gettop(L) - 2, LUA_MULTRET) != 0;
  bool cleaned = false;
  for (int attempt = 0; attempt < 2 && !cleaned; attempt++) {
    lua_pushvalue(L, 1);
    cleaned = call_protected(L, 0, 0) == 0;
    if (!cleaned && attempt == 0 && !failed) {
      lua_insert(L, 2);
      lua_settop(L, 2);
      failed = true;
    } else if (!cleaned) {
      lua_pop(L, 1);
    }
  }
  return failed ? raise_again(L) : lua_gettop(L) - 1;
}

/* --- commit --- */

enum { PARTS = 3 };

/* Pushes the table of change number `i`, from 0, of the list at `index`, and its key. */
static void push_place(lua_State *L, int index, int i) {
  lua_rawgeti(L, index, PARTS * i + 1);
  lua_rawgeti(L, index, PARTS * i + 2);
}

int check_field_list(lua_State *L, int index, int count) {
  check_table(L, index);
  int changes = (int)check_whole(L, count);
  for (int i = 0; i < changes; i++) {
    push_place(L, index, i);
    if (!lua_istable(L, -2) || lua_isnil(L, -1)) argument_error(L, index, "change %d is not of a table's field", i + 1);
    lua_pop(L, 2);
  }
  return changes;
}

int own_field_list(lua_State *L, int index, int count) {
  check_table(L, index);
  int changes = (int)check_whole(L, count);
  lua_createtable(L, PARTS * changes, 0);
  for (int i = 1; i <= PARTS * changes; i++) {
    lua_rawgeti(L, index, i);
    lua_rawseti(L, -2, i);
  }
  lua_replace(L, index);
  return check_field_list(L, index, count);
}

/* Setting a field that there never was takes memory, even to nil. */
static void set_field(lua_State *L, int index, int i) {
  int top = lua_gettop(L);
  push_place(L, index, i);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  lua_rawgeti(L, index, PARTS * i + 3);
  bool stays_nil = lua_isnil(L, -1) && lua_isnil(L, -2);
  lua_remove(L, -2);
  if (!stays_nil) lua_rawset(L, -3);
  lua_settop(L, top);
}

void set_fields(lua_State *L, int index, int count) {
  for (int i = 0; i < count; i++) set_field(L, index, i);
}

/* (fields, count, a boolean each): has every field exist that will get a value, and notes those that did not. */
static int reserve(lua_State *L) {
  enum { FIELDS = 1, COUNT, RESERVED };
  bool *reserved = lua_touserdata(L, RESERVED);
  int count = (int)lua_tointeger(L, COUNT);
  for (int i = 0; i < count; i++, lua_settop(L, RESERVED)) {
    push_place(L, FIELDS, i);
    lua_rawget(L, -2);
    lua_rawgeti(L, FIELDS, PARTS * i + 3);
    if (!lua_isnil(L, -2) || lua_isnil(L, -1)) continue;
    lua_settop(L, RESERVED);
    push_place(L, FIELDS, i);
    lua_pushboolean(L, false);
    lua_rawset(L, -3);
    reserved[i] = true;
  }
  return 0;
}

static void take_back(lua_State *L, int count, const bool *reserved) {
  for (int i = 0; i < count; i++) {
    if (!reserved[i]) continue;
    push_place(L, 1, i);
    lua_pushnil(L);
    lua_rawset(L, -3);
    lua_pop(L, 1);
  }
}

/* Whether a field will get a value that has none. */
static bool needs_reserve(lua_State *L, int index, int count) {
  int top = lua_gettop(L);
  bool needs = false;
  for (int i = 0; i < count && !needs; i++, lua_settop(L, top)) {
    push_place(L, index, i);
    lua_rawget(L, -2);
    lua_rawgeti(L, index, PARTS * i + 3);
    needs = lua_isnil(L, -2) && !lua_isnil(L, -1);
  }
  return needs;
}

/* The list of pairs at `index`, which may be nil and stays on the stack, and their number. */
static Tensor **check_pairs(lua_State *L, int index, int *pairs) {
  *pairs = 0;
  if (lua_isnil(L, index)) return NULL;
  check_table(L, index);
  int tensors = (int)list_length(L, index, index);
  if (tensors % 2 != 0) argument_error(L, index, "pairs of tensors expected, got %d", tensors);
  *pairs = tensors / 2;
  return check_tensor_list(L, index, tensors, false);
}

/* Has all fields exist that will get a value; `reserved` is on the stack. False with an error on top. */
static bool reserve_fields(lua_State *L, int reserved) {
  lua_pushcfunction(L, reserve);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, reserved);
  return call_protected(L, 3, 0) == 0;
}

/* commit(fields, count, copies, sums[, seed, position]): all of it or, with an error, nothing. `fields` holds `count`
 * times a table, a key and a value, which may be nil; `copies` a tensor and the one that is copied to it, as copy_ does,
 * and so on, or it is nil; `sums` a tensor and what is added to it; seed and position are those of manual_seed. */
static int lfp8_commit(lua_State *L) {
  enum { COPIES = 3, SUMS, SEED, POSITION, RESERVED };
  lua_settop(L, POSITION);
  int count = check_field_list(L, 1, 2), copy_count, sum_count;
  bool seeds = !lua_isnil(L, SEED), reserves = needs_reserve(L, 1, count);
  if (reserves || !lua_isnil(L, COPIES) || !lua_isnil(L, SUMS)) {
    own_field_list(L, 1, 2);
    reserves = needs_reserve(L, 1, count);
  }
  RandomSource source = {0};
  if (seeds) source = (RandomSource){(uint64_t)check_integer(L, SEED), (uint64_t)check_integer(L, POSITION)};
  bool *reserved = reserves ? lua_newuserdata(L, (size_t)count) : NULL;
  for (int i = 0; reserves && i < count; i++) reserved[i] = false;
  if (!reserves) lua_pushnil(L);
  Tensor **copies = check_pairs(L, COPIES, &copy_count), **sums = check_pairs(L, SUMS, &sum_count);
  bool failed = reserves && !reserve_fields(L, RESERVED), done = !failed;
  if (done && copy_count + sum_count > 0) done = op_change_all(copies, copy_count, sums, sum_count);
  if (done) {
    set_fields(L, 1, count);
    if (seeds) op_manual_seed(source);
  } else if (reserves) {
    take_back(L, count, reserved);
  }
  return failed ? raise_again(L) : finish(L, done, 0);
}

const luaL_Reg change_functions[] = {
    {"with", lfp8_with},
    {"finally", lfp8_finally},
    {"commit", lfp8_commit},
    {NULL, NULL},
};
