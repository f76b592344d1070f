/* What the processes of one run do together: distributed/distributed.h, from a library of its own, which is loaded when a
 * script joins others. lua/fp8/distributed checks arguments, and has all processes agree first. */
#include "distributed/distributed.h"

#include <dlfcn.h>
#include <string.h>

#include "lua/binding/binding.h"

static const Distributed *library; /* of the process; NULL before it is loaded */

/* true, or false and the reason */
static int answer(lua_State *L, bool done) {
  lua_pushboolean(L, done);
  if (done) return 1;
  push_error(L);
  return 2;
}

static bool open_library(const char *path) {
  if (library) return true;
  /* The parts that MPI loads later on look for its symbols among those of the process. */
  void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  void *symbol = handle ? dlsym(handle, DISTRIBUTED_OPEN) : NULL;
  if (!symbol) return error_set("%s can't be loaded: %s", path, dlerror());
  DistributedOpen open_distributed;
  memcpy(&open_distributed, &symbol, sizeof open_distributed);
  const Distributed *opened = open_distributed();
  if (opened->version != DISTRIBUTED_VERSION || opened->size != sizeof *opened) {
    return error_set("%s is of another build of fp8: build and install all of it together", path);
  }
  library = opened;
  return true;
}

/* distributed_open(path of the library) -> true, or false and the reason */
static int lfp8_distributed_open(lua_State *L) { return answer(L, open_library(luaL_checkstring(L, 1))); }

static const Distributed *check_library(lua_State *L) {
  if (!library) argument_error(L, 1, "the library has not been opened");
  return library;
}

/* distributed_start(seconds) -> {rank =, size =, local_rank =, medium =, reduces =}, or false and the reason */
static int lfp8_distributed_start(lua_State *L) {
  Group group;
  if (!check_library(L)->start(&group, check_double(L, 1))) return answer(L, false);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, group.rank);
  lua_setfield(L, -2, "rank");
  lua_pushinteger(L, group.size);
  lua_setfield(L, -2, "size");
  lua_pushinteger(L, group.local_rank);
  lua_setfield(L, -2, "local_rank");
  lua_pushstring(L, group.medium);
  lua_setfield(L, -2, "medium");
  lua_pushboolean(L, group.reduces);
  lua_setfield(L, -2, "reduces");
  return 1;
}

/* distributed_agree(call [, rank]) -> true, or false and the reason; with all, or with one rank */
static int lfp8_distributed_agree(lua_State *L) {
  const Distributed *table = check_library(L);
  const char *call = luaL_checkstring(L, 1);
  return answer(L, lua_isnoneornil(L, 2) ? table->agree(call) : table->agree_with((int)check_whole(L, 2), call));
}

static Tensor *check_contiguous(lua_State *L, int index) {
  Tensor *tensor = check_tensor(L, index);
  if (!tensor_is_contiguous(tensor)) argument_error(L, index, "the tensor must be contiguous");
  return tensor;
}

static Reduction check_reduction(lua_State *L, int index) {
  static const char *const names[] = {"sum", "mean", "max", "min", "product", NULL};
  return (Reduction)luaL_checkoption(L, index, NULL, names);
}

/* The following ones -> true, or false and the reason; their tensors are contiguous. */

/* distributed_all_reduce(x, reduction) */
static int lfp8_distributed_all_reduce(lua_State *L) {
  return answer(L, check_library(L)->all_reduce(check_contiguous(L, 1), check_reduction(L, 2)));
}

/* The tensors of the list at argument 1. */
static Tensor **check_contiguous_list(lua_State *L, int *count) {
  check_table(L, 1);
  *count = (int)list_length(L, 1, 1);
  Tensor **list = check_tensor_list(L, 1, *count, false);
  for (int i = 0; i < *count; i++) {
    if (!tensor_is_contiguous(list[i])) argument_error(L, 1, "tensor %d must be contiguous", i + 1);
  }
  return list;
}

/* distributed_average(list of tensors on one device, whole): each of the first `whole` becomes its mean, and this rank's
 * part of each of the others, beside the work that follows */
static int lfp8_distributed_average(lua_State *L) {
  const Distributed *table = check_library(L);
  int64_t whole = check_whole(L, 2);
  int count;
  Tensor **list = check_contiguous_list(L, &count);
  if (whole < 0 || whole > count) argument_error(L, 2, "a number from 0 to %d expected", count);
  return answer(L, table->average(list, (int)whole, count));
}

/* distributed_gather_parts(list of tensors on one device): the part that each rank has becomes that of all */
static int lfp8_distributed_gather_parts(lua_State *L) {
  const Distributed *table = check_library(L);
  int count;
  Tensor **list = check_contiguous_list(L, &count);
  return answer(L, table->gather_parts(list, count));
}

/* distributed_broadcast_each(list of tensors on one device, list of the ranks that they come from) */
static int lfp8_distributed_broadcast_each(lua_State *L) {
  const Distributed *table = check_library(L);
  check_table(L, 2);
  int count;
  Tensor **list = check_contiguous_list(L, &count);
  int *sources = lua_newuserdata(L, (size_t)(count + 1) * sizeof *sources);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 2, i + 1);
    sources[i] = (int)check_whole(L, -1);
    lua_pop(L, 1);
  }
  return answer(L, table->broadcast_each(list, sources, count));
}

/* distributed_join(x): on the device of x, what follows waits for what goes on beside */
static int lfp8_distributed_join(lua_State *L) { return answer(L, check_library(L)->join(check_tensor(L, 1))); }

/* distributed_broadcast(x, source) */
static int lfp8_distributed_broadcast(lua_State *L) {
  return answer(L, check_library(L)->broadcast(check_contiguous(L, 1), (int)check_whole(L, 2)));
}

/* distributed_all_gather(out, x) */
static int lfp8_distributed_all_gather(lua_State *L) {
  return answer(L, check_library(L)->all_gather(check_contiguous(L, 1), check_contiguous(L, 2)));
}

/* distributed_reduce_scatter(out, x, reduction) */
static int lfp8_distributed_reduce_scatter(lua_State *L) {
  return answer(
      L, check_library(L)->reduce_scatter(check_contiguous(L, 1), check_contiguous(L, 2), check_reduction(L, 3)));
}

/* distributed_send(x, rank) */
static int lfp8_distributed_send(lua_State *L) {
  return answer(L, check_library(L)->send(check_contiguous(L, 1), (int)check_whole(L, 2)));
}

/* distributed_receive(x, rank) */
static int lfp8_distributed_receive(lua_State *L) {
  return answer(L, check_library(L)->receive(check_contiguous(L, 1), (int)check_whole(L, 2)));
}

const luaL_Reg distributed_functions[] = {
    {"distributed_open", lfp8_distributed_open},
    {"distributed_start", lfp8_distributed_start},
    {"distributed_agree", lfp8_distributed_agree},
    {"distributed_all_reduce", lfp8_distributed_all_reduce},
    {"distributed_average", lfp8_distributed_average},
    {"distributed_gather_parts", lfp8_distributed_gather_parts},
    {"distributed_join", lfp8_distributed_join},
    {"distributed_broadcast", lfp8_distributed_broadcast},
    {"distributed_broadcast_each", lfp8_distributed_broadcast_each},
    {"distributed_all_gather", lfp8_distributed_all_gather},
    {"distributed_reduce_scatter", lfp8_distributed_reduce_scatter},
    {"distributed_send", lfp8_distributed_send},
    {"distributed_receive", lfp8_distributed_receive},
    {NULL, NULL},
};
