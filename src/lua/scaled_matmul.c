/* Products of codes. */
#include <string.h>

#include "lua/binding/binding.h"

/* scaled_matmul(a (m, k), scale of a, b (n, k), scale of b, dtype[, {bias =, fast = false}]) -> (m, n): float8 codes, with
 * scales for all, for rows or for 128 elements at a time: core/operations.h, ScaledProduct, and backend.h */
static int lfp8_scaled_matmul(lua_State *L) {
  lua_settop(L, 7); /* the last one holds the bias */
  ScaledProduct product = {
      .a = check_tensor(L, 1), .scale_a = check_tensor(L, 2), .b = check_tensor(L, 3), .scale_b = check_tensor(L, 4)};
  DType dtype = check_dtype(L, 5);
  if (!lua_isnoneornil(L, 6)) {
    check_table(L, 6);
    const char *name;
    for (lua_pushnil(L); next_field(L, 6, &name); lua_pop(L, 1)) {
      if (strcmp(name, "bias") == 0) {
        product.bias = tensor_of_field(L, 6, name);
        lua_pushvalue(L, -1);
        lua_replace(L, 7);
      } else if (strcmp(name, "fast") == 0) {
        product.fast = boolean_of_field(L, 6, name);
      } else {
        unknown_field(L, 6, name, "bias, fast");
      }
    }
  }
  return finish(L, op_scaled_matmul(new_tensor(L), &product, dtype), 1);
}

/* scaled_matmul_add_(sum (m, n), a (m, k), scale of a, b (n, k), scale of b) -> sum: ops.h, op_scaled_matmul_add */
static int lfp8_scaled_matmul_add_(lua_State *L) {
  Tensor *sum = check_tensor(L, 1);
  ScaledProduct product = {
      .a = check_tensor(L, 2), .scale_a = check_tensor(L, 3), .b = check_tensor(L, 4), .scale_b = check_tensor(L, 5)};
  bool done = op_scaled_matmul_add(sum, &product);
  lua_settop(L, 1);
  return finish(L, done, 1);
}

/* scales_runs(x) -> whether x's device takes a scale for every 128 terms of 16-bit products: ops.h, op_scales_runs */
static int lfp8_scales_runs(lua_State *L) {
  lua_pushboolean(L, op_scales_runs(check_tensor(L, 1)));
  return 1;
}

const luaL_Reg scaled_matmul_functions[] = {
    {"scaled_matmul", lfp8_scaled_matmul},
    {"scaled_matmul_add_", lfp8_scaled_matmul_add_},
    {"scales_runs", lfp8_scales_runs},
    {NULL, NULL},
};
