/* Matrix products. */
#include "lua/binding/binding.h"

/* matmul(a, b[, bias (n)[, dtype]]) -> (…, m, n), of the operands' dtype or f32 */
static int lfp8_matmul(lua_State *L) {
  const Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2), *bias = optional_tensor(L, 3);
  DType dtype = lua_isnoneornil(L, 4) ? a->dtype : check_dtype(L, 4);
  return finish(L, op_matmul(new_tensor(L), a, b, bias, dtype), 1);
}

/* matmul_add_(out (m, n) f32, a (m, k), b (k, n)) -> out, to which a · b has been added */
static int lfp8_matmul_add_(lua_State *L) {
  Tensor *out = check_tensor(L, 1);
  bool ok = op_matmul_add(out, check_tensor(L, 2), check_tensor(L, 3));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* triangle_matmul(a, b, lower) -> (…, m, n): ops/ops.h, op_triangle_matmul */
static int lfp8_triangle_matmul(lua_State *L) {
  const Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2);
  bool lower = optional_boolean(L, 3, false);
  return finish(L, op_triangle_matmul(new_tensor(L), a, b, lower), 1);
}

/* matrices(x) -> x, or a contiguous copy where matmul would have to make one each time */
static int lfp8_matrices(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  return finish(L, op_matrices(new_tensor(L), x), 1);
}

const luaL_Reg matmul_functions[] = {
    {"matmul", lfp8_matmul},
    {"matmul_add_", lfp8_matmul_add_},
    {"triangle_matmul", lfp8_triangle_matmul},
    {"matrices", lfp8_matrices},
    {NULL, NULL},
};
