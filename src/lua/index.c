/* Picking by index, and adding at an index. */
#include "lua/binding/binding.h"

/* index_select(x, dimension, index): the rows that a list of positions, counted from 0, names */
static int lfp8_index_select(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  const Tensor *index = check_tensor(L, 3);
  return finish(L, op_index_select(new_tensor(L), x, dimension, index), 1);
}

/* gather(x, dimension, index): out[.., i, ..] = x[.., index[.., i, ..], ..], positions counted from 0 */
static int lfp8_gather(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  const Tensor *index = check_tensor(L, 3);
  return finish(L, op_gather(new_tensor(L), x, dimension, index), 1);
}

/* The first four arguments of both functions below. `sizes` is where its sizes are to stay. */
static Addition check_addition(lua_State *L, Sizes *sizes) {
  int next;
  if (!lua_istable(L, 1)) argument_error(L, 1, "table of sizes expected, got %s", luaL_typename(L, 1));
  *sizes = check_sizes(L, 1, &next, NULL);
  return (Addition){.rank = sizes->rank,
                    .size = sizes->size,
                    .dimension = check_dimension(L, 2, sizes->rank),
                    .index = check_tensor(L, 3),
                    .source = check_tensor(L, 4)};
}

/* index_add(sizes, dimension, index, source[, dtype]): zeros of these sizes, f32 or the dtype, plus the source's rows
 * at the index: the derivative of index_select */
static int lfp8_index_add(lua_State *L) {
  Sizes sizes;
  Addition addition = check_addition(L, &sizes);
  DType dtype = lua_isnoneornil(L, 5) ? DTYPE_F32 : check_dtype(L, 5);
  return finish(L, op_index_add(new_tensor(L), &addition, dtype), 1);
}

/* scatter_add(sizes, dimension, index, source): f32 zeros of these sizes plus the source's elements at the index: the
 * derivative of gather */
static int lfp8_scatter_add(lua_State *L) {
  Sizes sizes;
  Addition addition = check_addition(L, &sizes);
  return finish(L, op_scatter_add(new_tensor(L), &addition), 1);
}

const luaL_Reg index_functions[] = {
    {"index_select", lfp8_index_select},
    {"gather", lfp8_gather},
    {"index_add", lfp8_index_add},
    {"scatter_add", lfp8_scatter_add},
    {NULL, NULL},
};
