/* The gates of recurrent layers. */
#include "lua/binding/binding.h"

/* recurrent_step(from_input, from_hidden, state) -> the state after it, what the backward pass needs, and of an LSTM,
 * which has four parts where a GRU has three, the hidden state: core/operations.h */
static int lfp8_recurrent_step(lua_State *L) {
  lua_settop(L, 3);
  RecurrentStep step = {
      .from_input = check_tensor(L, 1), .from_hidden = check_tensor(L, 2), .state = check_tensor(L, 3)};
  Tensor *state = new_tensor(L), *saved = new_tensor(L), *hidden = new_tensor(L);
  bool ok = op_recurrent_step(hidden, state, saved, &step);
  if (ok && !hidden->storage) {
    lua_pop(L, 1);
    return finish(L, ok, 2);
  }
  return finish(L, ok, 3);
}

/* recurrent_step_backward(saved, state, gradient of the hidden state[, state after it, its gradient]) -> gradients of the
 * state before, of what came from the input, and of a GRU, for which the last two are missing, of what came from the
 * hidden state */
static int lfp8_recurrent_step_backward(lua_State *L) {
  lua_settop(L, 5);
  RecurrentBackward backward = {.saved = check_tensor(L, 1),
                                .state = check_tensor(L, 2),
                                .grad_hidden = check_tensor(L, 3),
                                .state_after = optional_tensor(L, 4)};
  if (backward.state_after) backward.grad_state_after = check_tensor(L, 5);
  Tensor *state = new_tensor(L), *from_input = new_tensor(L), *from_hidden = new_tensor(L);
  bool ok = op_recurrent_step_backward(from_input, from_hidden, state, &backward);
  if (ok && !from_hidden->storage) {
    lua_pop(L, 1);
    return finish(L, ok, 2);
  }
  return finish(L, ok, 3);
}

const luaL_Reg recurrent_functions[] = {
    {"recurrent_step", lfp8_recurrent_step},
    {"recurrent_step_backward", lfp8_recurrent_step_backward},
    {NULL, NULL},
};
