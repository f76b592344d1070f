/* What layers are made of: normalization, dropout, embedding, attention's softmax, and the cross-entropy loss. */
#include <math.h>

#include "lua/binding.h"

/* layer_norm(x, weight or nil, bias or nil, epsilon) -> normalized rows, their means, their inverse deviations */
static int lfp8_layer_norm(lua_State *L) {
  const Tensor *x = check_tensor(L, 1), *weight = optional_tensor(L, 2), *bias = optional_tensor(L, 3);
  double epsilon = check_number(L, 4);
  Tensor *out = new_tensor(L), *mean = new_tensor(L), *inverse = new_tensor(L);
  return finish(L, op_normalize(out, mean, inverse, x, weight, bias, epsilon), 3);
}

/* rms_norm(x, weight or nil, epsilon) -> rows over their root mean squares, the inverses of those */
static int lfp8_rms_norm(lua_State *L) {
  const Tensor *x = check_tensor(L, 1), *weight = optional_tensor(L, 2);
  double epsilon = check_number(L, 3);
  Tensor *out = new_tensor(L), *inverse = new_tensor(L);
  return finish(L, op_normalize(out, NULL, inverse, x, weight, NULL, epsilon), 2);
}

/* Pushes a new tensor, or nil if it is not `wanted`. */
static Tensor *new_tensor_if(lua_State *L, bool wanted) {
  if (wanted) return new_tensor(L);
  lua_pushnil(L);
  return NULL;
}

/* normalize_backward(dy, x, means (nil for rms_norm), inverses, weight or nil, want dx, want dweight, dtype of dbias or
 * nil, addend of dx or nil) -> dx, dweight, dbias; nil for what is not wanted */
static int lfp8_normalize_backward(lua_State *L) {
  lua_settop(L, 9);
  const Tensor *dy = check_tensor(L, 1), *x = check_tensor(L, 2), *mean = optional_tensor(L, 3);
  const Tensor *inverse = check_tensor(L, 4), *weight = optional_tensor(L, 5);
  bool want_x = optional_boolean(L, 6, true), want_weight = optional_boolean(L, 7, false), want_bias = !lua_isnil(L, 8);
  DType bias_dtype = want_bias ? check_dtype(L, 8) : DTYPE_F32;
  NormalizeGradients gradients = {.addend = optional_tensor(L, 9)};
  gradients.x = new_tensor_if(L, want_x);
  gradients.weight = new_tensor_if(L, want_weight);
  gradients.bias = new_tensor_if(L, want_bias);
  return finish(L, op_normalize_backward(&gradients, dy, x, mean, inverse, weight, bias_dtype), 3);
}

/* dropout(x, probability[, seed, offset]) -> y, seed, offset: the mask is new, or that of an earlier call */
static int lfp8_dropout(lua_State *L) {
  lua_settop(L, 4);
  const Tensor *x = check_tensor(L, 1);
  double probability = check_number(L, 2);
  bool again = !lua_isnil(L, 3);
  RandomSource source = {0};
  if (again) source = (RandomSource){(uint64_t)check_whole(L, 3), (uint64_t)check_whole(L, 4)};
  bool ok = op_dropout(new_tensor(L), x, probability, &source, again);
  /* Seeds are whole numbers that a Lua number holds exactly, and offsets count draws. */
  lua_pushnumber(L, (double)(int64_t)source.seed);
  lua_pushnumber(L, (double)(int64_t)source.offset);
  return finish(L, ok, 3);
}

/* embedding(weight (count, features), integers from 0) -> the rows that they name */
static int lfp8_embedding(lua_State *L) {
  const Tensor *weight = check_tensor(L, 1), *index = check_tensor(L, 2);
  return finish(L, op_embedding(new_tensor(L), weight, index), 1);
}

/* attention_softmax_(scores, scale, causal): in place, backend.h, SoftmaxRule */
static int lfp8_attention_softmax_(lua_State *L) {
  Tensor *scores = check_tensor(L, 1);
  double scale = check_number(L, 2);
  bool ok = op_softmax_in_place(scores, scale, optional_boolean(L, 3, false));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* attention_softmax_backward_(gradient of the probabilities, probabilities, scale, causal): the gradient of the scores,
 * in place of the first */
static int lfp8_attention_softmax_backward_(lua_State *L) {
  Tensor *grad = check_tensor(L, 1);
  const Tensor *probabilities = check_tensor(L, 2);
  double scale = check_number(L, 3);
  bool ok = op_softmax_backward_in_place(grad, probabilities, scale, optional_boolean(L, 4, false));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

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

const luaL_Reg layer_functions[] = {
    {"layer_norm", lfp8_layer_norm},
    {"rms_norm", lfp8_rms_norm},
    {"normalize_backward", lfp8_normalize_backward},
    {"dropout", lfp8_dropout},
    {"embedding", lfp8_embedding},
    {"attention_softmax_", lfp8_attention_softmax_},
    {"attention_softmax_backward_", lfp8_attention_softmax_backward_},
    {"cross_entropy", lfp8_cross_entropy},
    {"cross_entropy_backward", lfp8_cross_entropy_backward},
    {NULL, NULL},
};
