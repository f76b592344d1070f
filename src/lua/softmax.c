/* Softmax, and the one of attention, which works in place. */
#include "lua/binding/binding.h"

static int softmax(lua_State *L, bool logarithm) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  return finish(L, op_softmax(new_tensor(L), x, dimension, logarithm), 1);
}

/* softmax(x, dimension), log_softmax(x, dimension) */
static int lfp8_softmax(lua_State *L) { return softmax(L, false); }
static int lfp8_log_softmax(lua_State *L) { return softmax(L, true); }

/* softmax_backward(dy, y, dimension, is_log) -> dx, from the output y */
static int lfp8_softmax_backward(lua_State *L) {
  const Tensor *dy = check_tensor(L, 1), *y = check_tensor(L, 2);
  int dimension = check_dimension(L, 3, y->rank);
  bool logarithm = optional_boolean(L, 4, false);
  return finish(L, op_softmax_backward(new_tensor(L), dy, y, dimension, logarithm), 1);
}

/* attention_softmax_(scores, scale, causal, masked): in place, core/operations.h, SoftmaxRule */
static int lfp8_attention_softmax_(lua_State *L) {
  Tensor *scores = check_tensor(L, 1);
  double scale = check_double(L, 2);
  bool ok = op_softmax_in_place(scores, scale, optional_boolean(L, 3, false), optional_boolean(L, 4, false));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* attention_softmax_backward_(gradient of the probabilities, probabilities, scale, causal): the gradient of the scores,
 * in place of the first */
static int lfp8_attention_softmax_backward_(lua_State *L) {
  Tensor *grad = check_tensor(L, 1);
  const Tensor *probabilities = check_tensor(L, 2);
  double scale = check_double(L, 3);
  bool ok = op_softmax_backward_in_place(grad, probabilities, scale, optional_boolean(L, 4, false));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

const luaL_Reg softmax_functions[] = {
    {"softmax", lfp8_softmax},
    {"log_softmax", lfp8_log_softmax},
    {"softmax_backward", lfp8_softmax_backward},
    {"attention_softmax_", lfp8_attention_softmax_},
    {"attention_softmax_backward_", lfp8_attention_softmax_backward_},
    {NULL, NULL},
};
