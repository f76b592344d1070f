/* The cross-entropy loss. */
#include "lua/binding/binding.h"

/* cross_entropy(logits (n, classes), targets (n), from 0) -> losses (n), f32; statistics (n, 2) for the gradient */
static int lfp8_cross_entropy(lua_State *L) {
  const Tensor *logits = check_tensor(L, 1), *target = check_tensor(L, 2);
  Tensor *out = new_tensor(L), *statistics = new_tensor(L);
  return finish(L, op_cross_entropy(out, statistics, logits, target), 2);
}

/* cross_entropy_backward(logits, targets, statistics, gradient of the losses (n)) -> gradient of the logits */
static int lfp8_cross_entropy_backward(lua_State *L) {
  const Tensor *logits = check_tensor(L, 1), *target = check_tensor(L, 2), *statistics = check_tensor(L, 3);
  const Tensor *dloss = check_tensor(L, 4);
  return finish(L, op_cross_entropy_backward(new_tensor(L), logits, target, statistics, dloss), 1);
}

const luaL_Reg cross_entropy_functions[] = {
    {"cross_entropy", lfp8_cross_entropy},
    {"cross_entropy_backward", lfp8_cross_entropy_backward},
    {NULL, NULL},
};
