/* Fitted scales. */
#include "lua/binding/binding.h"

/* fitted_scale(x, quantizer) -> scales, one a block, as quantize finds them: core/formats/fit.h */
static int lfp8_fitted_scale(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  QuantizeOptions options = check_quantizer(L, 2);
  options.stochastic = false;
  return finish(L, op_fitted_scale(new_tensor(L), x, &options), 1);
}

const luaL_Reg fitted_scale_functions[] = {
    {"fitted_scale", lfp8_fitted_scale},
    {NULL, NULL},
};
