/* Picking by index, and putting at an index. */
#include <string.h>

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

/* index_add(sizes, dimension, index, source[, dtype]): zeros of these sizes, f32 or the dtype, plus the source's rows
 * at the index: the derivative of index_select */
static int lfp8_index_add(lua_State *L) {
  int next;
  if (!lua_istable(L, 1)) argument_error(L, 1, "table of sizes expected, got %s", luaL_typename(L, 1));
  Sizes sizes = check_sizes(L, 1, &next, NULL);
  Addition addition = {.rank = sizes.rank,
                       .size = sizes.size,
                       .dimension = check_dimension(L, 2, sizes.rank),
                       .index = check_tensor(L, 3),
                       .source = check_tensor(L, 4)};
  DType dtype = lua_isnoneornil(L, 5) ? DTYPE_F32 : check_dtype(L, 5);
  return finish(L, op_index_add(new_tensor(L), &addition, dtype), 1);
}

/* x, dimension, index and the source, a tensor or a number, of the functions below. */
static int scatter(lua_State *L, ScatterRule rule, bool slices) {
  Tensor *x = check_tensor(L, 1);
  Scatter scatter = {.dimension = check_dimension(L, 2, x->rank),
                     .index = check_tensor(L, 3),
                     .source = check_operand(L, 4),
                     .rule = rule,
                     .slices = slices};
  bool ok = op_scatter_in_place(x, &scatter);
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* scatter_(x, dimension, index, source): x[.., index[.., i, ..], ..] = source[.., i, ..]; the source has the index's
 * shape or is a number */
static int lfp8_scatter_(lua_State *L) { return scatter(L, SCATTER_SET, false); }

/* scatter_add_(x, dimension, index, source): the source's elements are added */
static int lfp8_scatter_add_(lua_State *L) { return scatter(L, SCATTER_SUM, false); }

/* scatter_reduce_(x, dimension, index, source, rule): sum, prod, amax or amin */
static int lfp8_scatter_reduce_(lua_State *L) {
  static const struct {
    const char *name;
    ScatterRule rule;
  } rules[] = {{"sum", SCATTER_SUM}, {"prod", SCATTER_PROD}, {"amax", SCATTER_MAX}, {"amin", SCATTER_MIN}};
  const char *name = plain_text(L, 5);
  for (size_t i = 0; name && i < sizeof rules / sizeof *rules; i++) {
    if (strcmp(rules[i].name, name) == 0) return scatter(L, rules[i].rule, false);
  }
  return argument_error(L, 5, "sum, prod, amax or amin expected, got %.40s", name ? name : luaL_typename(L, 5));
}

/* index_copy_(x, dimension, index, source): slices of the dimension, at a list of positions */
static int lfp8_index_copy_(lua_State *L) { return scatter(L, SCATTER_SET, true); }

/* index_fill_(x, dimension, index, number) */
static int lfp8_index_fill_(lua_State *L) { return scatter(L, SCATTER_SET, true); }

/* index_add_(x, dimension, index, source): the source's slices are added; in the order of the index if they are floats */
static int lfp8_index_add_(lua_State *L) { return scatter(L, SCATTER_SUM, true); }

const luaL_Reg index_functions[] = {
    {"index_select", lfp8_index_select}, {"gather", lfp8_gather},
    {"index_add", lfp8_index_add},       {"scatter_", lfp8_scatter_},
    {"scatter_add_", lfp8_scatter_add_}, {"scatter_reduce_", lfp8_scatter_reduce_},
    {"index_copy_", lfp8_index_copy_},   {"index_fill_", lfp8_index_fill_},
    {"index_add_", lfp8_index_add_},     {NULL, NULL},
};
