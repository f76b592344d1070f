/* Conversions, copies, and writing into tensors. */
#include "lua/binding/binding.h"

/* to(tensor, {dtype =, device =, saturate =}): the tensor itself where nothing changes */
static int lfp8_to(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  Options unchanged = {.dtype = tensor->dtype, .device = tensor_device(tensor), .saturate = true, .converts = true};
  Options options = check_options(L, 2, unchanged);
  if (options.dtype == tensor->dtype && device_equal(options.device, unchanged.device)) {
    lua_settop(L, 1);
    return 1;
  }
  return finish(L, op_convert(new_tensor(L), tensor, options.dtype, options.device, options.saturate), 1);
}

/* contiguous(tensor): the tensor itself where it is contiguous, else a copy */
static int lfp8_contiguous(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  if (tensor_is_contiguous(tensor)) {
    lua_settop(L, 1);
    return 1;
  }
  return finish(L, op_contiguous(new_tensor(L), tensor), 1);
}

/* clone(tensor): a contiguous copy */
static int lfp8_clone(lua_State *L) {
  const Tensor *tensor = check_tensor(L, 1);
  return finish(L, op_convert(new_tensor(L), tensor, tensor->dtype, tensor_device(tensor), true), 1);
}

/* copy_(tensor, source): overwrites with a source of any dtype and device that broadcasts to the tensor's shape */
static int lfp8_copy_(lua_State *L) {
  Tensor *tensor = check_tensor(L, 1);
  bool ok = op_copy_in_place(tensor, check_tensor(L, 2));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* fill_(tensor, number) */
static int lfp8_fill_(lua_State *L) {
  Tensor *tensor = check_tensor(L, 1);
  bool ok = op_fill_in_place(tensor, check_number(L, 2));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* zero_(tensor) */
static int lfp8_zero_(lua_State *L) {
  Tensor *tensor = check_tensor(L, 1);
  bool ok = op_fill_in_place(tensor, number_of(0));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

const luaL_Reg copy_functions[] = {
    {"to", lfp8_to},       {"contiguous", lfp8_contiguous}, {"clone", lfp8_clone}, {"copy_", lfp8_copy_},
    {"fill_", lfp8_fill_}, {"zero_", lfp8_zero_},           {NULL, NULL},
};
