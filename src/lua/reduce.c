/* Reductions. */
#include "lua/binding/binding.h"

static int reduce(lua_State *L, ReduceOp op, double correction) {
  const Tensor *x = check_tensor(L, 1);
  DimensionSet dimensions = check_dimensions(L, 2, x->rank);
  bool keep = optional_boolean(L, 3, false);
  return finish(L, op_reduce(op, correction, new_tensor(L), x, dimensions, keep), 1);
}

/* sum(x, dimensions, keepdim) … argmax(x, dimensions, keepdim): over all dimensions where none are given; argmax counts
 * positions from 0, row-major over the reduced dimensions */
static int lfp8_sum(lua_State *L) { return reduce(L, REDUCE_SUM, 0); }
static int lfp8_mean(lua_State *L) { return reduce(L, REDUCE_MEAN, 0); }
static int lfp8_prod(lua_State *L) { return reduce(L, REDUCE_PROD, 0); }
static int lfp8_norm(lua_State *L) { return reduce(L, REDUCE_NORM, 0); }
static int lfp8_max(lua_State *L) { return reduce(L, REDUCE_MAX, 0); }
static int lfp8_min(lua_State *L) { return reduce(L, REDUCE_MIN, 0); }
static int lfp8_argmax(lua_State *L) { return reduce(L, REDUCE_ARGMAX, 0); }

/* var and std(x, dimensions, keepdim, correction): the correction is taken from the number of elements */
static int lfp8_var(lua_State *L) { return reduce(L, REDUCE_VAR, luaL_optnumber(L, 4, 1)); }
static int lfp8_std(lua_State *L) { return reduce(L, REDUCE_STD, luaL_optnumber(L, 4, 1)); }

const luaL_Reg reduce_functions[] = {
    {"sum", lfp8_sum}, {"mean", lfp8_mean},     {"prod", lfp8_prod}, {"norm", lfp8_norm}, {"max", lfp8_max},
    {"min", lfp8_min}, {"argmax", lfp8_argmax}, {"var", lfp8_var},   {"std", lfp8_std},   {NULL, NULL},
};
