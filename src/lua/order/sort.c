/* Sorting, and picking the largest or smallest. */
#include "lua/binding/binding.h"

/* sort(x, dimension, descending[, count]) -> values, positions from 0: the first `count` in order, or all */
static int lfp8_sort(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  bool descending = optional_boolean(L, 3, false);
  int64_t count = lua_isnoneornil(L, 4) ? x->size[dimension] : check_whole(L, 4);
  Tensor *values = new_tensor(L), *positions = new_tensor(L);
  return finish(L, op_sort(values, positions, x, dimension, count, descending), 2);
}

/* argsort(x, dimension, descending) -> positions from 0 */
static int lfp8_argsort(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  bool descending = optional_boolean(L, 3, false);
  return finish(L, op_sort(NULL, new_tensor(L), x, dimension, x->size[dimension], descending), 1);
}

const luaL_Reg sort_functions[] = {
    {"sort", lfp8_sort},
    {"argsort", lfp8_argsort},
    {NULL, NULL},
};
