/* Searching in ascending lists. */
#include "lua/binding/binding.h"

/* searchsorted(sorted, values, right): how many elements of its row come before each value */
static int lfp8_searchsorted(lua_State *L) {
  const Tensor *sorted = check_tensor(L, 1), *values = check_tensor(L, 2);
  bool right = optional_boolean(L, 3, false);
  return finish(L, op_searchsorted(new_tensor(L), sorted, values, right), 1);
}

const luaL_Reg search_functions[] = {
    {"searchsorted", lfp8_searchsorted},
    {NULL, NULL},
};
