/* Memory that fp8 and other libraries have in common: tensors over cdata, and DLPack (https://dmlc.github.io/dlpack). */
#include <stdlib.h>
#include <string.h>

#include "lua/binding/binding.h"

/* The payload of the cdata at `index`, which is the pointer itself of one that is a pointer. */
static const void *check_cdata(lua_State *L, int index) {
  if (lua_isnone(L, index) || strcmp(luaL_typename(L, index), "cdata") != 0)
    argument_error(L, index, "cdata expected, got %s", lua_isnone(L, index) ? "nothing" : luaL_typename(L, index));
  return lua_topointer(L, index);
}

/* The pointer at `index`: a cdata of a pointer, which lua/fp8/exchange makes of whatever is given there. */
static void *check_pointer(lua_State *L, int index) {
  void *pointer = NULL;
  memcpy(&pointer, check_cdata(L, index), sizeof pointer);
  return pointer;
}

/* Makes the pointer at `index` another one. */
static void set_pointer(lua_State *L, int index, void *pointer) {
  memcpy((void *)check_cdata(L, index), &pointer, sizeof pointer);
}

/* The strides at `index`, in elements; NULL for nil. */
static const int64_t *check_strides(lua_State *L, int index, const Sizes *sizes, int64_t stride[TENSOR_MAX_RANK]) {
  if (lua_isnoneornil(L, index)) return NULL;
  check_table(L, index);
  if (list_length(L, index, index) != sizes->rank)
    argument_error(L, index, "as many strides as sizes expected: %d", sizes->rank);
  for (int i = 0; i < sizes->rank; i++) {
    lua_rawgeti(L, index, i + 1);
    stride[i] = check_whole(L, -1);
    lua_pop(L, 1);
  }
  return stride;
}

/* A Lua value that memory belongs to stays in the registry, by a number, until nothing has that memory. */
static void drop_reference(Context *context, void *owner) {
  if (!context->collect) return; /* the Lua state is being closed, with all that is in it */
  const State *state = context->owner;
  luaL_unref(state->lenders, LUA_REGISTRYINDEX, (int)(intptr_t)owner);
}

/* from_data(pointer, sizes, dtype, owner) -> a contiguous tensor on the CPU over memory that is valid as long as the owner */
static int lfp8_from_data(lua_State *L) {
  void *data = check_pointer(L, 1);
  int next;
  check_table(L, 2);
  Sizes sizes = check_sizes(L, 2, &next, NULL);
  DType dtype = check_dtype(L, 3);
  lua_settop(L, 4);
  Tensor *out = new_tensor(L);
  lua_pushvalue(L, 4);
  int reference = luaL_ref(L, LUA_REGISTRYINDEX);
  Lender lender = {drop_reference, (void *)(intptr_t)reference};
  bool ok = tensor_borrow(out, dtype, (Device){DEVICE_CPU, 0}, sizes.rank, sizes.size, NULL, data, lender);
  if (!ok) luaL_unref(L, LUA_REGISTRYINDEX, reference);
  return finish(L, ok, 1);
}

/* --- DLPack, as in dlpack.h, version 1: the structs without a version number, which all libraries take --- */

typedef struct DLTensor {
  void *data;
  int32_t device_type, device_id;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
  DLTensor dl_tensor;
  void *manager_ctx;
  void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

/* What another library is given. */
typedef struct Export {
  DLManagedTensor managed;
  Tensor tensor;
} Export;

static void delete_export(DLManagedTensor *managed) {
  Export *export = managed->manager_ctx;
  tensor_release(&export->tensor);
  free(export);
}

static void call_deleter(Context *context, void *owner) {
  (void)context;
  DLManagedTensor *managed = owner;
  if (managed->deleter) managed->deleter(managed);
}

/* to_dlpack(tensor, device type, device number, type code, pointer): makes the pointer that to a DLManagedTensor, whose
 * deleter drops a reference to the tensor's memory. It is there before: nothing can fail once the reference is taken. */
static int lfp8_to_dlpack(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  check_cdata(L, 5);
  int device_type = (int)check_whole(L, 2), device_id = (int)check_whole(L, 3), code = (int)check_whole(L, 4);
  Export *export = host_allocate(sizeof *export);
  if (!export) return finish(L, false, 0);
  memset(export, 0, sizeof *export);
  tensor_share(&export->tensor, tensor);
  tensor->storage->exposed = true;
  export->managed.dl_tensor = (DLTensor){
      .data = tensor_data(tensor),
      .device_type = device_type,
      .device_id = device_id,
      .ndim = tensor->rank,
      .code = (uint8_t)code,
      .bits = (uint8_t)(8 * dtype_size(tensor->dtype)),
      .lanes = 1,
      .shape = export->tensor.size,
      .strides = export->tensor.stride,
  };
  export->managed.manager_ctx = export;
  export->managed.deleter = delete_export;
  set_pointer(L, 5, export);
  return 0;
}

/* from_dlpack(pointer to a DLManagedTensor, its sizes, its strides or nil, dtype, device) -> a tensor over its memory,
 * which calls the deleter when nothing has that any more */
static int lfp8_from_dlpack(lua_State *L) {
  DLManagedTensor *managed = check_pointer(L, 1);
  if (!managed) argument_error(L, 1, "the pointer is NULL");
  int next;
  check_table(L, 2);
  Sizes sizes = check_sizes(L, 2, &next, NULL);
  int64_t stride[TENSOR_MAX_RANK];
  const int64_t *strides = check_strides(L, 3, &sizes, stride);
  DType dtype = check_dtype(L, 4);
  Device device = check_device(L, 5);
  Tensor *out = new_tensor(L);
  void *data = managed->dl_tensor.data ? (char *)managed->dl_tensor.data + managed->dl_tensor.byte_offset : NULL;
  Lender lender = {call_deleter, managed};
  return finish(L, tensor_borrow(out, dtype, device, sizes.rank, sizes.size, strides, data, lender), 1);
}

const luaL_Reg exchange_functions[] = {
    {"from_data", lfp8_from_data},
    {"to_dlpack", lfp8_to_dlpack},
    {"from_dlpack", lfp8_from_dlpack},
    {NULL, NULL},
};
