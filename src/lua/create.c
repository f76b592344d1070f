/* Functions that make tensors. Each ends in an options table {dtype =, device =, requires_grad =}; a list of sizes or of
 * numbers may hold the options instead. */
#include "core/formats/element.h"
#include "lua/binding/binding.h"

static int fill_new(lua_State *L, Number value) {
  int next;
  Options options = default_options();
  Sizes sizes = check_sizes(L, 1, &next, &options);
  options = check_options(L, next, options);
  Tensor *out = new_tensor(L);
  return finish_new(L, op_full(out, options.dtype, options.device, sizes.rank, sizes.size, value), out, &options);
}

/* zeros(sizes…, options) */
static int lfp8_zeros(lua_State *L) { return fill_new(L, number_of(0)); }

/* ones(sizes…, options) */
static int lfp8_ones(lua_State *L) { return fill_new(L, number_of(1)); }

/* full(table of sizes, value, options) */
static int lfp8_full(lua_State *L) {
  int next;
  if (!lua_istable(L, 1)) argument_error(L, 1, "table of sizes expected, got %s", luaL_typename(L, 1));
  Options options = default_options();
  Sizes sizes = check_sizes(L, 1, &next, &options);
  Number value = check_number(L, 2);
  options = check_options(L, 3, options);
  Tensor *out = new_tensor(L);
  return finish_new(L, op_full(out, options.dtype, options.device, sizes.rank, sizes.size, value), out, &options);
}

/* empty(sizes…, options): contents undefined */
static int lfp8_empty(lua_State *L) {
  int next;
  Options options = default_options();
  Sizes sizes = check_sizes(L, 1, &next, &options);
  options = check_options(L, next, options);
  Tensor *out = new_tensor(L);
  return finish_new(L, tensor_create(out, options.dtype, options.device, sizes.rank, sizes.size), out, &options);
}

/* arange(stop, options), arange(start, stop[, step], options): the start is 0 and the step 1 unless given; stop is
 * left out */
static int lfp8_arange(lua_State *L) {
  int count = 0;
  Number bounds[3] = {number_of(0), number_of(0), number_of(1)};
  while (count < 3 && to_number(L, count + 1, count + 1, &bounds[count])) count++;
  if (count == 0) check_number(L, 1);
  if (count == 1) {
    bounds[1] = bounds[0];
    bounds[0] = number_of(0);
  }
  Options options = check_options(L, count + 1, default_options());
  Tensor *out = new_tensor(L);
  bool ok = op_arange(out, options.dtype, options.device, bounds[0], bounds[1], bounds[2]);
  return finish_new(L, ok, out, &options);
}

/* Reads the sizes of the nested table on top of the stack from its first elements. */
static Sizes nested_sizes(lua_State *L) {
  Sizes sizes = {.rank = 0};
  int top = lua_gettop(L);
  lua_pushvalue(L, 1);
  while (lua_istable(L, -1)) {
    if (sizes.rank == TENSOR_MAX_RANK) argument_error(L, 1, "tables are nested more than %d deep", TENSOR_MAX_RANK);
    int64_t length = (int64_t)lua_objlen(L, -1);
    sizes.size[sizes.rank++] = length;
    if (length == 0) break;
    lua_rawgeti(L, -1, 1);
  }
  lua_settop(L, top);
  return sizes;
}

/* Stores the nested tables below the value on top of the stack at `data`; returns the address after them. */
static char *store_nested(lua_State *L, const Sizes *sizes, int depth, DType dtype, char *data) {
  if (depth == sizes->rank) {
    Number number = {0};
    if (!to_number(L, -1, 1, &number))
      argument_error(L, 1, "numbers expected in the table, got %s", luaL_typename(L, -1));
    element_store(dtype, data, number);
    return data + dtype_size(dtype);
  }
  /* What the outermost list may have besides its elements has been read. */
  int64_t length = !lua_istable(L, -1) ? -1 : depth == 0 ? sizes->size[0] : list_length(L, -1, 1);
  if (length != sizes->size[depth]) {
    if (length < 0)
      argument_error(L, 1, "a table of %d elements expected at depth %d, got %s", (int)sizes->size[depth], depth + 1,
                     luaL_typename(L, -1));
    argument_error(L, 1, "tables at depth %d have lengths %d and %d", depth + 1, (int)sizes->size[depth], (int)length);
  }
  for (int64_t i = 1; i <= length; i++) {
    lua_rawgeti(L, -1, (int)i);
    data = store_nested(L, sizes, depth + 1, dtype, data);
    lua_pop(L, 1);
  }
  return data;
}

/* tensor(number or nested tables of numbers, options) */
static int lfp8_tensor(lua_State *L) {
  Number number;
  if (!lua_istable(L, 1) && !to_number(L, 1, 1, &number)) {
    argument_error(L, 1, "number or table expected, got %s", lua_isnone(L, 1) ? "nothing" : luaL_typename(L, 1));
  }
  Options options = default_options();
  if (lua_istable(L, 1)) list_length_and_options(L, 1, &options);
  options = check_options(L, 2, options);
  Sizes sizes = nested_sizes(L);
  Device cpu = {DEVICE_CPU, 0};
  Tensor *values = new_tensor(L);
  if (!op_check_device(cpu) || !tensor_create(values, options.dtype, cpu, sizes.rank, sizes.size))
    return finish(L, false, 0);
  lua_checkstack(L, TENSOR_MAX_RANK + 8);
  lua_pushvalue(L, 1);
  store_nested(L, &sizes, 0, options.dtype, tensor_data(values));
  lua_pop(L, 1);
  if (options.device.kind == DEVICE_CPU) return finish_new(L, true, values, &options);
  Tensor *out = new_tensor(L);
  return finish_new(L, op_convert(out, values, options.dtype, options.device, true), out, &options);
}

const luaL_Reg create_functions[] = {
    {"zeros", lfp8_zeros},   {"ones", lfp8_ones},     {"full", lfp8_full}, {"empty", lfp8_empty},
    {"arange", lfp8_arange}, {"tensor", lfp8_tensor}, {NULL, NULL},
};
