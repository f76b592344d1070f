/* Attention by a fused kernel. */
#include "lua/binding.h"

/* attention(q, k, v, scale, causal) -> y, log_sums; nothing where the device has no kernel for these. backend.h,
 * attention */
static int lfp8_attention(lua_State *L) {
  const Tensor *q = check_tensor(L, 1), *k = check_tensor(L, 2), *v = check_tensor(L, 3);
  float scale = (float)check_number(L, 4);
  bool causal = optional_boolean(L, 5, false), done;
  Tensor *y = new_tensor(L), *log_sums = new_tensor(L);
  bool ok = op_attention(y, log_sums, q, k, v, scale, causal, &done);
  return finish(L, ok, done ? 2 : 0);
}

/* attention_backward(dy, y, log_sums, q, k, v, scale, causal, dq, dk, dv): writes the last three */
static int lfp8_attention_backward(lua_State *L) {
  AttentionGrads grads = {
      .dy = check_tensor(L, 1), .dq = check_tensor(L, 9), .dk = check_tensor(L, 10), .dv = check_tensor(L, 11)};
  const Tensor *y = check_tensor(L, 2), *log_sums = check_tensor(L, 3);
  const Tensor *q = check_tensor(L, 4), *k = check_tensor(L, 5), *v = check_tensor(L, 6);
  float scale = (float)check_number(L, 7);
  bool causal = optional_boolean(L, 8, false);
  return finish(L, op_attention_backward(&grads, y, log_sums, q, k, v, scale, causal), 0);
}

const luaL_Reg attention_functions[] = {
    {"attention", lfp8_attention},
    {"attention_backward", lfp8_attention_backward},
    {NULL, NULL},
};
