/* Checks of arguments that are not tensors. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lua/binding/binding.h"

/* The registry key of the functions that load backends, by the name of their devices. */
static const char loaders_key;

const char *plain_text(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TSTRING) return NULL;
  const char *text = lua_tostring(L, index);
  return strlen(text) == lua_objlen(L, index) ? text : NULL;
}

void check_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) argument_error(L, index, "table expected, got %s", luaL_typename(L, index));
}

bool optional_boolean(lua_State *L, int index, bool fallback) {
  if (lua_isnoneornil(L, index)) return fallback;
  if (!lua_isboolean(L, index)) argument_error(L, index, "boolean expected, got %s", luaL_typename(L, index));
  return lua_toboolean(L, index);
}

/* What PyTorch, NumPy and safetensors call dtypes. */
static const struct {
  const char *name;
  DType dtype;
} other_names[] = {
    {"float", DTYPE_F32},        {"float32", DTYPE_F32},  {"fp32", DTYPE_F32},         {"half", DTYPE_F16},
    {"float16", DTYPE_F16},      {"fp16", DTYPE_F16},     {"bfloat16", DTYPE_BF16},    {"float8_e4m3fn", DTYPE_E4M3},
    {"float8_e4m3", DTYPE_E4M3}, {"f8_e4m3", DTYPE_E4M3}, {"float8_e5m2", DTYPE_E5M2}, {"f8_e5m2", DTYPE_E5M2},
    {"uint8", DTYPE_U8},         {"byte", DTYPE_U8},      {"int", DTYPE_I32},          {"int32", DTYPE_I32},
    {"long", DTYPE_I64},         {"int64", DTYPE_I64},
};

bool dtype_called(const char *name, DType *dtype) {
  if (strncmp(name, "torch.", 6) == 0) name += 6;
  for (int i = 0; i < DTYPE_COUNT; i++) {
    if (strcasecmp(dtype_name((DType)i), name) != 0) continue;
    *dtype = (DType)i;
    return true;
  }
  for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++) {
    if (strcasecmp(other_names[i].name, name) != 0) continue;
    *dtype = other_names[i].dtype;
    return true;
  }
  return false;
}

DType read_dtype(lua_State *L, int index, int argument) {
  DType dtype = DTYPE_F32;
  if (lua_type(L, index) != LUA_TSTRING)
    argument_error(L, argument, "dtype name expected, got %s", luaL_typename(L, index));
  const char *name = plain_text(L, index);
  if (!name || !dtype_parse(name, &dtype)) {
    if (name && dtype_called(name, &dtype))
      argument_error(L, argument, "dtype '%.40s' is called %s here", name, dtype_name(dtype));
    argument_error(L, argument, "unknown dtype '%.40s': it is one of f32 f16 bf16 e4m3 e5m2 u8 i32 i64",
                   lua_tostring(L, index));
  }
  return dtype;
}

DType check_dtype(lua_State *L, int index) { return read_dtype(L, index, index); }

/* Pushes the table of loaders. */
static void push_loaders(lua_State *L) {
  lua_pushlightuserdata(L, (void *)&loaders_key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_istable(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushlightuserdata(L, (void *)&loaders_key);
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Raises an error that names what there is. */
static void unknown_device(lua_State *L, int argument, const char *name) {
  char known[256] = "";
  size_t length = 0;
  push_loaders(L);
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    const char *kind = lua_tostring(L, -2);
    int added = snprintf(known + length, sizeof known - length, ", %.20s or %.20s:N", kind, kind);
    if (added > 0 && length + (size_t)added < sizeof known) length += (size_t)added;
  }
  argument_error(L, argument, "unknown device '%.40s': it is cpu%s", name, known);
}

/* Has the loader of a kind of device that is not known yet make it known; an error if there is none or it fails. */
static void load_backend(lua_State *L, int argument, const char *name, size_t length) {
  push_loaders(L);
  lua_pushlstring(L, name, length);
  lua_rawget(L, -2);
  if (!lua_isfunction(L, -1)) unknown_device(L, argument, name);
  lua_call(L, 0, 2);
  context_enter(state_now()->context); /* it may have used another one */
  if (!lua_toboolean(L, -2)) {
    argument_error(L, argument, "%s", lua_isstring(L, -1) ? lua_tostring(L, -1) : "no such device");
  }
  lua_pop(L, 3);
}

static Device read_device(lua_State *L, int index, int argument) {
  Device device = {DEVICE_CPU, 0};
  if (lua_type(L, index) != LUA_TSTRING)
    argument_error(L, argument, "device name expected, got %s", luaL_typename(L, index));
  const char *name = lua_tostring(L, index);
  size_t length = plain_text(L, index) ? device_name_check(name) : 0;
  if (length == 0) unknown_device(L, argument, name);
  if (device_kind_find(name, length) < 0) load_backend(L, argument, name, length);
  if (!device_parse(name, &device)) unknown_device(L, argument, name);
  if (!op_check_device(device)) argument_error(L, argument, "%s", error_message());
  return device;
}

Device check_device(lua_State *L, int index) { return read_device(L, index, index); }

static int normalize_dimension(lua_State *L, int argument, double value, int rank) {
  if (!number_is_whole(value) || value == 0 || fabs(value) > rank) {
    argument_error(L, argument, "dimension %.14g is out of range: the tensor has %d", value, rank);
  }
  return (int)(value > 0 ? value - 1 : value + rank);
}

int check_dimension(lua_State *L, int index, int rank) {
  return normalize_dimension(L, index, check_double(L, index), rank);
}

DimensionSet check_dimensions(lua_State *L, int index, int rank) {
  DimensionSet all = (1u << rank) - 1;
  if (lua_isnoneornil(L, index)) return all;
  if (rank == 0) rank = 1; /* 1 and -1 stand for it, as in PyTorch */
  if (!lua_istable(L, index)) return all & 1u << check_dimension(L, index, rank);
  DimensionSet dimensions = 0;
  int64_t count = list_length(L, index, index);
  for (int i = 1; i <= count; i++) {
    lua_rawgeti(L, index, i);
    if (lua_type(L, -1) != LUA_TNUMBER)
      argument_error(L, index, "dimensions must be numbers, got %s", luaL_typename(L, -1));
    DimensionSet dimension = 1u << normalize_dimension(L, index, lua_tonumber(L, -1), rank);
    if (dimensions & dimension) argument_error(L, index, "dimension %d is given twice", (int)lua_tonumber(L, -1));
    dimensions |= dimension;
    lua_pop(L, 1);
  }
  return dimensions & all;
}

static void add_size(lua_State *L, int argument, Sizes *sizes, int value_index) {
  if (lua_type(L, value_index) != LUA_TNUMBER) {
    argument_error(L, argument, "sizes must be whole numbers, got %s", luaL_typename(L, value_index));
  }
  double value = lua_tonumber(L, value_index);
  if (!number_is_whole(value)) argument_error(L, argument, "sizes must be whole numbers, got %.14g", value);
  if (sizes->rank == TENSOR_MAX_RANK)
    argument_error(L, argument, "at most %d dimensions are possible", TENSOR_MAX_RANK);
  sizes->size[sizes->rank++] = (int64_t)value;
}

/* A table with named fields only is one of options; every other one, an empty one too, is a list of sizes. */
static bool is_size_list(lua_State *L, int index) {
  if (!lua_istable(L, index)) return false;
  bool empty = true;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    empty = false;
    if (lua_type(L, -2) == LUA_TSTRING) continue;
    lua_pop(L, 2);
    return true;
  }
  return empty;
}

/* nil ends the sizes only where nothing follows it: anything else is a hole. */
static void check_end_of_sizes(lua_State *L, int index) {
  if (!lua_isnil(L, index)) return;
  for (int later = index + 1; later <= lua_gettop(L); later++) {
    if (!lua_isnil(L, later)) argument_error(L, index, "sizes must be whole numbers, got nil");
  }
}

Sizes check_sizes(lua_State *L, int index, int *next, Options *options) {
  Sizes sizes = {.rank = 0};
  if (is_size_list(L, index)) {
    int64_t count = options ? list_length_and_options(L, index, options) : list_length(L, index, index);
    for (int i = 1; i <= count; i++) {
      lua_rawgeti(L, index, i);
      add_size(L, index, &sizes, -1);
      lua_pop(L, 1);
    }
    *next = index + 1;
    return sizes;
  }
  while (!lua_isnoneornil(L, index) && !lua_istable(L, index)) {
    add_size(L, index, &sizes, index);
    index++;
  }
  check_end_of_sizes(L, index);
  *next = index;
  return sizes;
}

Options default_options(void) {
  const State *state = state_now();
  return (Options){.dtype = state->default_dtype, .device = state->default_device, .saturate = true};
}

/* Sets the option called `name` to the value on top of the stack; false if there is none of that name. */
static bool set_option(lua_State *L, int argument, const char *name, Options *options) {
  if (strcmp(name, "dtype") == 0) {
    options->dtype = read_dtype(L, -1, argument);
  } else if (strcmp(name, "device") == 0) {
    options->device = read_device(L, lua_gettop(L), argument);
  } else if (strcmp(name, options->converts ? "saturate" : "requires_grad") == 0) {
    if (!lua_isboolean(L, -1)) argument_error(L, argument, "%s: boolean expected, got %s", name, luaL_typename(L, -1));
    *(options->converts ? &options->saturate : &options->requires_grad) = lua_toboolean(L, -1);
  } else {
    return false;
  }
  return true;
}

Options check_options(lua_State *L, int index, Options options) {
  if (lua_isnoneornil(L, index)) {
    if (options.device.kind != DEVICE_CPU && !op_check_device(options.device))
      argument_error(L, index, "%s", error_message());
    return options;
  }
  if (!lua_istable(L, index)) argument_error(L, index, "options table expected, got %s", luaL_typename(L, index));
  if (options.in_list) argument_error(L, index, "there are options in the list before it already");
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    const char *name = plain_text(L, -2);
    if (!name || !set_option(L, index, name, &options)) {
      argument_error(L, index, "unknown option '%.40s'", name ? name : luaL_typename(L, -2));
    }
  }
  return options;
}

/* --- lists --- */

/* A list is a table with the keys 1 … n. A value that is nil leaves a hole, which the border that lua_objlen finds may
 * lie before or behind: only counting the keys tells. */
static int64_t read_list(lua_State *L, int index, int argument, Options *options) {
  double last = 0;
  int64_t count = 0;
  if (index < 0) index += lua_gettop(L) + 1;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TNUMBER) {
      double key = lua_tonumber(L, -2);
      if (!number_is_whole(key) || key < 1) argument_error(L, argument, "lists count from 1, got element %.14g", key);
      if (key > last) last = key;
      count++;
      continue;
    }
    const char *name = plain_text(L, -2);
    if (!name)
      argument_error(L, argument, "a list is expected, got a table with a key that is a %s", luaL_typename(L, -2));
    if (options && set_option(L, argument, name, options)) {
      options->in_list = true;
    } else {
      argument_error(L, argument,
                     options ? "unknown option '%.40s'" : "a list is expected, got a table with a field '%.40s'", name);
    }
  }
  if ((double)count != last) {
    int hole = 1;
    for (; hole <= count; hole++) {
      lua_rawgeti(L, index, hole);
      if (lua_isnil(L, -1)) break;
      lua_pop(L, 1);
    }
    argument_error(L, argument, "element %d of the list is missing", hole);
  }
  return count;
}

int64_t list_length(lua_State *L, int index, int argument) { return read_list(L, index, argument, NULL); }

int64_t list_length_and_options(lua_State *L, int index, Options *options) {
  return read_list(L, index, index, options);
}

Operand check_operand(lua_State *L, int index) {
  Operand operand = {0};
  if (to_number(L, index, index, &operand.number)) return operand;
  if (to_tensor(L, index)) return (Operand){.tensor = check_tensor(L, index)};
  argument_error(L, index, "tensor or number expected, got %s",
                 lua_isnone(L, index) ? "nothing" : luaL_typename(L, index));
  return operand;
}

/* set_default_dtype(name): the dtype of tensors made without one; f32, f16 or bf16 */
static int lfp8_set_default_dtype(lua_State *L) {
  DType dtype = check_dtype(L, 1);
  if (!dtype_is_compute_float(dtype)) argument_error(L, 1, "f32, f16 or bf16 expected, got %s", dtype_name(dtype));
  state_now()->default_dtype = dtype;
  return 0;
}

/* set_default_device(name): the device of tensors made without one */
static int lfp8_set_default_device(lua_State *L) {
  state_now()->default_device = check_device(L, 1);
  return 0;
}

/* set_backend_loader(name, function): called when a device of this name, of which no backend is loaded, is first asked
 * for; returns true once it has loaded one with backend_open, or false and the reason */
static int lfp8_set_backend_loader(lua_State *L) {
  luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  push_loaders(L);
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawset(L, -3);
  return 0;
}

const luaL_Reg argument_functions[] = {
    {"set_default_dtype", lfp8_set_default_dtype},
    {"set_default_device", lfp8_set_default_device},
    {"set_backend_loader", lfp8_set_backend_loader},
    {NULL, NULL},
};
