/* Layer, root mean square and batch normalization. */
#include "lua/binding/binding.h"

/* layer_norm(x, weight or nil, bias or nil, epsilon[, addend]) -> normalized rows, their means as pairs
 * (core/normalize.h), their inverse deviations; with an addend of x + addend, and that */
static int lfp8_layer_norm(lua_State *L) {
  Normalization normalization = {.x = check_tensor(L, 1),
                                 .weight = optional_tensor(L, 2),
                                 .bias = optional_tensor(L, 3),
                                 .epsilon = check_double(L, 4),
                                 .addend = optional_tensor(L, 5)};
  Tensor *out = new_tensor(L), *mean = new_tensor(L), *inverse = new_tensor(L);
  Tensor *sum = normalization.addend ? new_tensor(L) : NULL;
  return finish(L, op_normalize(out, mean, inverse, sum, &normalization), sum ? 4 : 3);
}

/* rms_norm(x, weight or nil, epsilon[, addend]) -> rows over their root mean squares, the inverses of those; with an addend
 * of x + addend, and that */
static int lfp8_rms_norm(lua_State *L) {
  Normalization normalization = {.x = check_tensor(L, 1),
                                 .weight = optional_tensor(L, 2),
                                 .epsilon = check_double(L, 3),
                                 .addend = optional_tensor(L, 4)};
  Tensor *out = new_tensor(L), *inverse = new_tensor(L);
  Tensor *sum = normalization.addend ? new_tensor(L) : NULL;
  return finish(L, op_normalize(out, NULL, inverse, sum, &normalization), sum ? 3 : 2);
}

/* batch_norm(x, weight or nil, bias or nil, epsilon) -> channels of x (images, channels, elements) normalized, their means
 * as pairs (core/normalize.h), their inverse deviations and their variances */
static int lfp8_batch_norm(lua_State *L) {
  Normalization normalization = {.x = check_tensor(L, 1),
                                 .weight = optional_tensor(L, 2),
                                 .bias = optional_tensor(L, 3),
                                 .epsilon = check_double(L, 4)};
  Tensor *out = new_tensor(L), *mean = new_tensor(L), *inverse = new_tensor(L), *variance = new_tensor(L);
  return finish(L, op_normalize_channels(out, mean, inverse, variance, &normalization), 4);
}

/* normalize_backward{dy =, x =, mean = (nil for rms_norm), inverse =, weight =, addend = (of dx), want_x =, want_weight =,
 * bias_dtype =, by_channel = (of batch_norm)} -> {x =, weight =, bias =}: the gradients that are wanted, that of the bias if
 * its dtype is given */
static int lfp8_normalize_backward(lua_State *L) {
  static const char *const fields[] = {"dy",     "x",           "mean",       "inverse",    "weight", "addend",
                                       "want_x", "want_weight", "bias_dtype", "by_channel", NULL};
  check_fields(L, 1, fields);
  NormalizeBackward backward = {
      .dy = tensor_field(L, 1, "dy"),
      .x = tensor_field(L, 1, "x"),
      .mean = optional_tensor_field(L, 1, "mean"),
      .inverse = tensor_field(L, 1, "inverse"),
      .weight = optional_tensor_field(L, 1, "weight"),
      .addend = optional_tensor_field(L, 1, "addend"),
  };
  bool want_x = boolean_field(L, 1, "want_x"), want_weight = boolean_field(L, 1, "want_weight");
  bool by_channel = boolean_field(L, 1, "by_channel");
  DType bias_dtype = DTYPE_F32;
  bool want_bias = dtype_field(L, 1, "bias_dtype", &bias_dtype);
  lua_createtable(L, 0, 3);
  NormalizeGradients gradients = {
      .x = new_tensor_field(L, "x", want_x),
      .weight = new_tensor_field(L, "weight", want_weight),
      .bias = new_tensor_field(L, "bias", want_bias),
  };
  return finish(L, op_normalize_backward(&gradients, &backward, bias_dtype, by_channel), 1);
}

const luaL_Reg normalize_functions[] = {
    {"layer_norm", lfp8_layer_norm},
    {"rms_norm", lfp8_rms_norm},
    {"batch_norm", lfp8_batch_norm},
    {"normalize_backward", lfp8_normalize_backward},
    {NULL, NULL},
};
