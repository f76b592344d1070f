/* Selecting elements. */
#include "lua/binding/binding.h"

/* nonzero(x): the coordinates, from 0, of elements that are not 0, one row each */
static int lfp8_nonzero(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  return finish(L, op_nonzero(new_tensor(L), x), 1);
}

/* masked_select(x, mask): the elements of x where the mask is not 0 */
static int lfp8_masked_select(lua_State *L) {
  const Tensor *x = check_tensor(L, 1), *mask = check_tensor(L, 2);
  return finish(L, op_masked_select(new_tensor(L), x, mask), 1);
}

const luaL_Reg select_functions[] = {
    {"nonzero", lfp8_nonzero},
    {"masked_select", lfp8_masked_select},
    {NULL, NULL},
};
