/* What quantizing did to a tensor, and what it would do. */
#include "lua/binding/binding.h"

/* compare(row, x, values or codes or nil, scales or nil, the quantizer that they are of): what became of x, as the words of
 * a Comparison (core/formats/quantizer.h), into an i64 row */
static int lfp8_compare(lua_State *L) {
  Tensor *row = check_tensor(L, 1);
  const Tensor *x = check_tensor(L, 2), *values = optional_tensor(L, 3), *scale = optional_tensor(L, 4);
  QuantizeOptions options = {0};
  if (scale) options = check_quantizer(L, 5);
  options.stochastic = false;
  return finish(L, op_compare(row, x, values, scale, &options), 0);
}

/* compare_quantized(row, x, quantizer, known scales or nil, dtype of a map's values): the same of what quantize would make
 * of x, to nearest */
static int lfp8_compare_quantized(lua_State *L) {
  Tensor *row = check_tensor(L, 1);
  const Tensor *x = check_tensor(L, 2);
  QuantizeOptions options = check_quantizer(L, 3);
  options.stochastic = false;
  options.known_scale = optional_tensor(L, 4);
  options.dtype = lua_isnoneornil(L, 5) ? x->dtype : check_dtype(L, 5);
  return finish(L, op_compare_quantized(row, x, &options), 0);
}

const luaL_Reg compare_functions[] = {
    {"compare", lfp8_compare},
    {"compare_quantized", lfp8_compare_quantized},
    {NULL, NULL},
};
