/* Quantization, and back. */
#include "lua/binding/binding.h"

/* How often the field `scale` asks for scales: not at all, once, or as many times as it says. */
static int64_t scale_field(lua_State *L, int table) {
  lua_pushliteral(L, "scale");
  lua_rawget(L, table);
  double times = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : lua_toboolean(L, -1);
  lua_pop(L, 1);
  if (number_is_whole(times) && times >= 0) return (int64_t)times;
  argument_error(L, table, "the scale can't be made %.14g times", times);
  return 0;
}

/* quantize(x, operand, wants) -> the tensors that `wants` names, by the same names:
 *
 *   codes = true, transposed = true   codes, and those of the transposed matrix
 *   values = dtype                    what the codes decode to
 *   scale = true, or a number         scales, one a block; a whole tensor's so many times
 *   sum = dtype                       sums of x over its rows, one a column
 *
 * of x quantized as the operand {format =, blocksize =, rounding =, scale_rounding =} says (lua/fp8/linear/plan.lua), with
 * the scales wants.known if there are any: core/quantizer.h. */
static int lfp8_quantize(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions options = check_quantize_options(L, 2);
  check_table(L, 3);
  bool codes = boolean_field(L, 3, "codes"), transposed = boolean_field(L, 3, "transposed");
  bool values = dtype_field(L, 3, "values", &options.dtype), sum = dtype_field(L, 3, "sum", &options.sum_dtype);
  int64_t scales = scale_field(L, 3);
  options.scale_count = scales > 1 ? scales : 0;
  options.known_scale = optional_tensor_field(L, 3, "known");
  lua_createtable(L, 0, 5);
  QuantizeOutputs outputs = {
      .codes = new_tensor_field(L, "codes", codes),
      .transposed = new_tensor_field(L, "transposed", transposed),
      .values = new_tensor_field(L, "values", values),
      .scale = new_tensor_field(L, "scale", scales > 0),
      .column_sum = new_tensor_field(L, "sum", sum),
  };
  return finish(L, op_quantize(&outputs, x, &options), 1);
}

/* dequantize(codes, scales, operand, dtype) -> tensor */
static int lfp8_dequantize(lua_State *L) {
  const Tensor *codes = check_tensor(L, 1), *scale = check_tensor(L, 2);
  QuantizeOptions options = check_quantize_options(L, 3);
  options.stochastic = false;
  if (!lua_isnoneornil(L, 4)) options.dtype = check_dtype(L, 4);
  return finish(L, op_dequantize(new_tensor(L), codes, scale, &options), 1);
}

const luaL_Reg quantize_functions[] = {
    {"quantize", lfp8_quantize},
    {"dequantize", lfp8_dequantize},
    {NULL, NULL},
};
