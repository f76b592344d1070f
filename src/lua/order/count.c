/* Counting elements. */
#include "lua/binding/binding.h"

/* histogram(x, edges): how many elements are between neighbouring edges */
static int lfp8_histogram(lua_State *L) {
  const Tensor *x = check_tensor(L, 1), *edges = check_tensor(L, 2);
  return finish(L, op_histogram(new_tensor(L), x, edges), 1);
}

/* bincount(x, bins): how often each number from 0 to bins - 1 is there */
static int lfp8_bincount(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int64_t bins = check_integer(L, 2);
  if (bins < 0) argument_error(L, 2, "bins must be at least 0, got %lld", (long long)bins);
  return finish(L, op_bincount(new_tensor(L), x, bins), 1);
}

const luaL_Reg count_functions[] = {
    {"histogram", lfp8_histogram},
    {"bincount", lfp8_bincount},
    {NULL, NULL},
};
