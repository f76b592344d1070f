/* Running sums and products. */
#include "lua/binding/binding.h"

static int scan(lua_State *L, ScanOp op) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  ScanRule rule = {.op = op, .reverse = optional_boolean(L, 3, false)};
  return finish(L, op_scan(new_tensor(L), x, dimension, rule), 1);
}

/* cumsum(x, dimension[, reverse]), cumprod(x, dimension[, reverse]): over all positions up to each, or in reverse from each
 * on */
static int lfp8_cumsum(lua_State *L) { return scan(L, SCAN_SUM); }
static int lfp8_cumprod(lua_State *L) { return scan(L, SCAN_PROD); }

const luaL_Reg scan_functions[] = {
    {"cumsum", lfp8_cumsum},
    {"cumprod", lfp8_cumprod},
    {NULL, NULL},
};
