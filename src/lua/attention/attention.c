/* Attention by a fused kernel. */
#include "lua/binding/binding.h"

/* attention(q, k, v, scale, causal[, mask]) -> y, log_sums; nothing where the device has no kernel for these: backend.h */
static int lfp8_attention(lua_State *L) {
  Attention attention = {.q = check_tensor(L, 1),
                         .k = check_tensor(L, 2),
                         .v = check_tensor(L, 3),
                         .scale = (float)check_double(L, 4),
                         .causal = optional_boolean(L, 5, false),
                         .mask = optional_tensor(L, 6)};
  bool done;
  Tensor *y = new_tensor(L), *log_sums = new_tensor(L);
  bool ok = op_attention(y, log_sums, &attention, &done);
  return finish(L, ok, done ? 2 : 0);
}

/* attention_backward{q =, k =, v =, scale =, causal =, mask =, y =, log_sums =, dy =, dq =, dk =, dv =}: writes the last three */
static int lfp8_attention_backward(lua_State *L) {
  static const char *const fields[] = {"q",        "k",  "v",  "scale", "causal", "mask", "y",
                                       "log_sums", "dy", "dq", "dk",    "dv",     NULL};
  check_fields(L, 1, fields);
  AttentionBackward backward = {
      .forward = {.q = tensor_field(L, 1, "q"),
                  .k = tensor_field(L, 1, "k"),
                  .v = tensor_field(L, 1, "v"),
                  .scale = (float)number_field(L, 1, "scale", 1),
                  .causal = boolean_field(L, 1, "causal"),
                  .mask = optional_tensor_field(L, 1, "mask")},
      .y = tensor_field(L, 1, "y"),
      .log_sums = tensor_field(L, 1, "log_sums"),
      .dy = tensor_field(L, 1, "dy"),
  };
  AttentionGradients gradients = {
      .q = tensor_field(L, 1, "dq"), .k = tensor_field(L, 1, "dk"), .v = tensor_field(L, 1, "dv")};
  return finish(L, op_attention_backward(&gradients, &backward), 0);
}

const luaL_Reg attention_functions[] = {
    {"attention", lfp8_attention},
    {"attention_backward", lfp8_attention_backward},
    {NULL, NULL},
};
