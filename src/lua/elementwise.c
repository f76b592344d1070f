/* Elementwise arithmetic. */
#include <math.h>

#include "lua/binding/binding.h"

static int unary(lua_State *L, UnaryOp op) {
  const Tensor *x = check_tensor(L, 1);
  return finish(L, op_unary(op, new_tensor(L), x), 1);
}

/* The functions of core/operations.h, lfp8_exp and the others: NAME(x), elementwise. */
#define UNARY_FUNCTION(NAME, name)                                                                                     \
  static int lfp8_##name(lua_State *L) { return unary(L, UNARY_##NAME); }
UNARY_OPERATIONS(UNARY_FUNCTION)

static int binary(lua_State *L, BinaryOp op) {
  Operand a = check_operand(L, 1), b = check_operand(L, 2);
  return finish(L, op_binary(op, new_tensor(L), a, b), 1);
}

/* NAME(a, b), elementwise on tensors and numbers; NAME_backward(grad, x or y): the gradient of the operation's input. */
#define BINARY_FUNCTION(NAME, name)                                                                                    \
  static int lfp8_##name(lua_State *L) { return binary(L, BINARY_##NAME); }
BINARY_OPERATIONS(BINARY_FUNCTION)

static int binary_in_place(lua_State *L, BinaryOp op) {
  Tensor *x = check_tensor(L, 1);
  bool ok = op_binary_in_place(op, x, check_operand(L, 2));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* add_(x, b) … div_(x, b): in place; b broadcasts to x */
static int lfp8_add_(lua_State *L) { return binary_in_place(L, BINARY_ADD); }
static int lfp8_sub_(lua_State *L) { return binary_in_place(L, BINARY_SUB); }
static int lfp8_mul_(lua_State *L) { return binary_in_place(L, BINARY_MUL); }
static int lfp8_div_(lua_State *L) { return binary_in_place(L, BINARY_DIV); }

/* where(condition, a, b): a where the condition is not 0, else b */
static int lfp8_where(lua_State *L) {
  const Tensor *condition = check_tensor(L, 1);
  Operand a = check_operand(L, 2), b = check_operand(L, 3);
  return finish(L, op_where(new_tensor(L), condition, a, b), 1);
}

/* masked_fill(x, mask, number): the number where the mask is not 0, else x */
static int lfp8_masked_fill(lua_State *L) {
  Operand x = {.tensor = check_tensor(L, 1)};
  const Tensor *mask = check_tensor(L, 2);
  Operand value = {.number = check_number(L, 3)};
  return finish(L, op_where(new_tensor(L), mask, value, x), 1);
}

/* clamp(x, low or nil, high or nil) */
static int lfp8_clamp(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  Number low = lua_isnoneornil(L, 2) ? number_of(-INFINITY) : check_number(L, 2);
  Number high = lua_isnoneornil(L, 3) ? number_of(INFINITY) : check_number(L, 3);
  return finish(L, op_clamp(new_tensor(L), x, low, high), 1);
}

#define ENTRY(NAME, name) {#name, lfp8_##name},

const luaL_Reg elementwise_functions[] = {
    {"add_", lfp8_add_},   {"sub_", lfp8_sub_},
    {"mul_", lfp8_mul_},   {"div_", lfp8_div_},
    {"where", lfp8_where}, {"masked_fill", lfp8_masked_fill},
    {"clamp", lfp8_clamp}, UNARY_OPERATIONS(ENTRY) BINARY_OPERATIONS(ENTRY){NULL, NULL},
};
