/* What a tensor is, and its elements as Lua values. */
#include <math.h>

#include "core/formats/element.h"
#include "lua/binding/binding.h"

/* shape(tensor) -> table of sizes */
static int lfp8_shape(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  lua_createtable(L, tensor->rank, 0);
  for (int i = 0; i < tensor->rank; i++) {
    lua_pushnumber(L, (double)tensor->size[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* fits(tensor, table of sizes, dtype) -> boolean: whether it has this shape and dtype */
static int lfp8_fits(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  bool fits = tensor->dtype == check_dtype(L, 3) && (int)lua_objlen(L, 2) == tensor->rank;
  for (int i = 0; fits && i < tensor->rank; i++) {
    lua_rawgeti(L, 2, i + 1);
    fits = lua_tonumber(L, -1) == (double)tensor->size[i];
    lua_pop(L, 1);
  }
  lua_pushboolean(L, fits);
  return 1;
}

/* like(a, b) -> boolean: whether two tensors have one shape, dtype and device */
static int lfp8_like(lua_State *L) {
  const Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2);
  lua_pushboolean(L,
                  a->dtype == b->dtype && tensor_same_shape(a, b) && device_equal(tensor_device(a), tensor_device(b)));
  return 1;
}

/* stride(tensor) -> table of strides, in elements */
static int lfp8_stride(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  lua_createtable(L, tensor->rank, 0);
  for (int i = 0; i < tensor->rank; i++) {
    lua_pushnumber(L, (double)tensor->stride[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* size(tensor, dimension) -> number */
static int lfp8_size(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  lua_pushnumber(L, (double)tensor->size[check_dimension(L, 2, tensor->rank)]);
  return 1;
}

/* promoted(dtype, other) -> the dtype that both promote to */
static int lfp8_promoted(lua_State *L) {
  DType dtype = check_dtype(L, 1);
  lua_pushstring(L, dtype_name(dtype_promote(dtype, check_dtype(L, 2))));
  return 1;
}

/* dtype_called(value) -> what a dtype of this or of another library is called here ("float32": f32), nil if it is none */
static int lfp8_dtype_called(lua_State *L) {
  const char *name = plain_text(L, 1);
  DType dtype = DTYPE_F32;
  if (name && dtype_called(name, &dtype)) {
    lua_pushstring(L, dtype_name(dtype));
  } else {
    lua_pushnil(L);
  }
  return 1;
}

/* rank(tensor) -> number of dimensions */
static int lfp8_rank(lua_State *L) {
  lua_pushinteger(L, check_tensor(L, 1)->rank);
  return 1;
}

/* numel(tensor) -> number of elements */
static int lfp8_numel(lua_State *L) {
  lua_pushnumber(L, (double)tensor_count(check_tensor(L, 1)));
  return 1;
}

/* dtype(tensor) -> name */
static int lfp8_dtype(lua_State *L) {
  lua_pushstring(L, dtype_name(check_tensor(L, 1)->dtype));
  return 1;
}

/* device(tensor) -> name */
static int lfp8_device(lua_State *L) {
  char name[DEVICE_NAME_MAX];
  lua_pushstring(L, device_name(tensor_device(check_tensor(L, 1)), name));
  return 1;
}

/* is_contiguous(tensor) -> boolean: row-major without gaps */
static int lfp8_is_contiguous(lua_State *L) {
  lua_pushboolean(L, tensor_is_contiguous(check_tensor(L, 1)));
  return 1;
}

/* is_shared(tensor) -> boolean: whether anything else, such as a view or a graph, has its memory */
static int lfp8_is_shared(lua_State *L) {
  lua_pushboolean(L, check_tensor(L, 1)->storage->references > 1);
  return 1;
}

/* memory_of(tensor) -> a number that tells its memory from any other that is in use, and how many bytes that has; nothing of
 * a freed tensor */
static int lfp8_memory_of(lua_State *L) {
  const Tensor *tensor = to_tensor(L, 1);
  if (!tensor) check_tensor(L, 1);
  if (!tensor->storage) return 0;
  lua_pushnumber(L, (double)(uintptr_t)tensor->storage);
  lua_pushnumber(L, (double)tensor->storage->bytes);
  return 2;
}

/* version(tensor) -> number of in-place changes that its storage has had */
static int lfp8_version(lua_State *L) {
  lua_pushnumber(L, (double)check_tensor(L, 1)->storage->version);
  return 1;
}

/* data(tensor) -> light userdata of the first element, of a contiguous tensor in the CPU's memory */
static int lfp8_data(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  char name[DEVICE_NAME_MAX];
  if (tensor_device(tensor).kind != DEVICE_CPU) {
    argument_error(L, 1, "a tensor on the CPU is needed, this one is on %s", device_name(tensor_device(tensor), name));
  }
  if (!tensor_is_contiguous(tensor)) argument_error(L, 1, "a contiguous tensor is needed; use :contiguous() first");
  lua_pushlightuserdata(L, tensor_data(tensor));
  return 1;
}

/* Pushes an element as item and totable give it. */
static void push_element(lua_State *L, DType dtype, const void *element) {
  if (dtype == DTYPE_I64) {
    push_integer(L, *(const int64_t *)element);
  } else {
    lua_pushnumber(L, element_load(dtype, element));
  }
}

/* item(tensor) -> the number in a tensor of one element; an int64_t beyond 2^53, where numbers have gaps */
static int lfp8_item(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  char text[TENSOR_SHAPE_TEXT_MAX];
  int64_t element[1] = {0};
  if (tensor_count(tensor) != 1) {
    argument_error(L, 1, "a tensor of one element is needed, this one has shape %s", tensor_shape_text(tensor, text));
  }
  bool ok = op_to_host(tensor, element);
  if (ok) push_element(L, tensor->dtype, element);
  return finish(L, ok, 1);
}

/* Pushes the elements from `data` on as tables nested from dimension `depth` on; returns the address after them. */
static const char *push_nested(lua_State *L, const Tensor *tensor, int depth, const char *data) {
  if (depth == tensor->rank) {
    push_element(L, tensor->dtype, data);
    return data + dtype_size(tensor->dtype);
  }
  int64_t length = tensor->size[depth];
  lua_createtable(L, (int)length, 0);
  for (int64_t i = 1; i <= length; i++) {
    data = push_nested(L, tensor, depth + 1, data);
    lua_rawseti(L, -2, (int)i);
  }
  return data;
}

/* totable(tensor) -> nested tables of what item gives, or that itself if the tensor has no dimensions */
static int lfp8_totable(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  int64_t count = tensor_count(tensor), rows = 1;
  char text[TENSOR_SHAPE_TEXT_MAX];
  /* Dimensions before an empty one make tables too. */
  for (int i = 0; i < tensor->rank; i++) {
    if (tensor->size[i] > 0 && __builtin_mul_overflow(rows, tensor->size[i], &rows)) rows = INT64_MAX;
  }
  if (rows > (int64_t)1 << 26) {
    argument_error(L, 1, "shape %s has too many elements for Lua tables", tensor_shape_text(tensor, text));
  }
  void *data = lua_newuserdata(L, (size_t)(count * dtype_size(tensor->dtype)) + 1);
  if (!op_to_host(tensor, data)) return finish(L, false, 0);
  lua_checkstack(L, TENSOR_MAX_RANK + 8);
  push_nested(L, tensor, 0, data);
  return 1;
}

/* contents(tensor) -> a number that tells whether what was derived from the tensor's elements still holds: it changes
 * with every change in place, and whenever the capture of a graph begins or ends. NaN, which equals nothing, after
 * expose(). */
static int lfp8_contents(lua_State *L) {
  const Storage *storage = check_tensor(L, 1)->storage;
  double changes = (double)storage->version + (double)capture_epoch() * 0x1p32;
  lua_pushnumber(L, storage->exposed ? NAN : changes);
  return 1;
}

/* expose(tensor): a pointer to its elements is handed to a script, so that contents() holds for nothing any more */
static int lfp8_expose(lua_State *L) {
  check_tensor(L, 1)->storage->exposed = true;
  return 0;
}

const luaL_Reg tensor_functions[] = {
    {"shape", lfp8_shape},
    {"fits", lfp8_fits},
    {"like", lfp8_like},
    {"stride", lfp8_stride},
    {"size", lfp8_size},
    {"promoted", lfp8_promoted},
    {"dtype_called", lfp8_dtype_called},
    {"rank", lfp8_rank},
    {"numel", lfp8_numel},
    {"dtype", lfp8_dtype},
    {"device", lfp8_device},
    {"is_contiguous", lfp8_is_contiguous},
    {"is_shared", lfp8_is_shared},
    {"memory_of", lfp8_memory_of},
    {"version", lfp8_version},
    {"data", lfp8_data},
    {"item", lfp8_item},
    {"totable", lfp8_totable},
    {"contents", lfp8_contents},
    {"expose", lfp8_expose},
    {NULL, NULL},
};
