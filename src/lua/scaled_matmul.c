/* Products of codes. */
#include "lua/binding/binding.h"

/* scaled_matmul{a = (m, k), scale_a =, b = (n, k), scale_b =, bias =, dtype =, fast = false} -> (m, n): float8 codes, one
 * scale or one a row: core/operations.h, ScaledProduct, and backend.h */
static int lfp8_scaled_matmul(lua_State *L) {
  check_table(L, 1);
  DType dtype = DTYPE_F32;
  ScaledProduct product = {
      .a = tensor_field(L, 1, "a"),
      .scale_a = tensor_field(L, 1, "scale_a"),
      .b = tensor_field(L, 1, "b"),
      .scale_b = tensor_field(L, 1, "scale_b"),
      .bias = optional_tensor_field(L, 1, "bias"),
      .fast = boolean_field(L, 1, "fast"),
  };
  dtype_field(L, 1, "dtype", &dtype);
  return finish(L, op_scaled_matmul(new_tensor(L), &product, dtype), 1);
}

const luaL_Reg scaled_matmul_functions[] = {
    {"scaled_matmul", lfp8_scaled_matmul},
    {NULL, NULL},
};
