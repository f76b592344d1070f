/* Joining tensors. */
#include "lua/binding/binding.h"

/* The list of tensors at index 1. */
static const Tensor **check_list(lua_State *L, int *count) {
  if (!lua_istable(L, 1)) argument_error(L, 1, "list of tensors expected, got %s", luaL_typename(L, 1));
  *count = (int)list_length(L, 1, 1);
  if (*count == 0) argument_error(L, 1, "the list is empty");
  return (const Tensor **)check_tensor_list(L, 1, *count, false);
}

/* cat(list, dimension): tensors joined along a dimension that they have */
static int lfp8_cat(lua_State *L) {
  int count;
  const Tensor **list = check_list(L, &count);
  int dimension = lua_isnoneornil(L, 2) ? 0 : check_dimension(L, 2, list[0]->rank);
  if (list[0]->rank == 0) argument_error(L, 1, "tensors without dimensions can't be joined; use stack");
  return finish(L, op_cat(new_tensor(L), list, count, dimension), 1);
}

/* stack(list, dimension): tensors of one shape joined along a new dimension */
static int lfp8_stack(lua_State *L) {
  lua_settop(L, 2);
  int count;
  const Tensor **list = check_list(L, &count);
  int dimension = lua_isnoneornil(L, 2) ? 0 : check_dimension(L, 2, list[0]->rank + 1);
  return finish(L, op_stack(new_tensor(L), list, count, dimension), 1);
}

const luaL_Reg join_functions[] = {
    {"cat", lfp8_cat},
    {"stack", lfp8_stack},
    {NULL, NULL},
};
