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

static int unary_in_place(lua_State *L, UnaryOp op) {
  Tensor *x = check_tensor(L, 1);
  lua_settop(L, 1);
  return finish(L, op_unary_in_place(op, x), 1);
}

static int binary_in_place(lua_State *L, BinaryOp op) {
  Tensor *x = check_tensor(L, 1);
  bool ok = op_binary_in_place(op, x, check_operand(L, 2));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* NAME_(x), NAME_(x, b): in place; b broadcasts to x. */
#define UNARY_IN_PLACE(NAME, name)                                                                                     \
  static int lfp8_##name##_(lua_State *L) { return unary_in_place(L, UNARY_##NAME); }
UNARY_OF_INTEGERS(UNARY_IN_PLACE)
UNARY_OF_FLOATS(UNARY_IN_PLACE)

#define BINARY_IN_PLACE(NAME, name)                                                                                    \
  static int lfp8_##name##_(lua_State *L) { return binary_in_place(L, BINARY_##NAME); }
BINARY_OF_INTEGERS(BINARY_IN_PLACE)
BINARY_OF_FLOATS(BINARY_IN_PLACE)

/* scale_(x, factor): x times an f32 tensor of one element, in place; free where that is 1 */
static int lfp8_scale_(lua_State *L) {
  Tensor *x = check_tensor(L, 1);
  bool ok = op_scale_in_place(x, check_tensor(L, 2));
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

/* accumulate(a, b) -> a + b, of one shape, dtype and device: a itself, in place, where nothing else has its memory */
static int lfp8_accumulate(lua_State *L) {
  Tensor *a = check_tensor(L, 1);
  const Tensor *b = check_tensor(L, 2);
  if (a->storage->references > 1 || !tensor_is_contiguous(a) || !tensor_same_shape(a, b) || a->dtype != b->dtype) {
    return finish(L, op_binary(BINARY_ADD, new_tensor(L), (Operand){.tensor = a}, (Operand){.tensor = b}), 1);
  }
  lua_settop(L, 2);
  bool ok = op_binary_in_place(BINARY_ADD, a, (Operand){.tensor = b});
  lua_settop(L, 1);
  return finish(L, ok, 1);
}

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
#define ENTRY_IN_PLACE(NAME, name) {#name "_", lfp8_##name##_},

const luaL_Reg elementwise_functions[] = {
    {"scale_", lfp8_scale_},
    {"accumulate", lfp8_accumulate},
    {"where", lfp8_where},
    {"masked_fill", lfp8_masked_fill},
    {"clamp", lfp8_clamp},
    UNARY_OPERATIONS(ENTRY) BINARY_OPERATIONS(ENTRY) UNARY_OF_INTEGERS(ENTRY_IN_PLACE) UNARY_OF_FLOATS(ENTRY_IN_PLACE)
        BINARY_OF_INTEGERS(ENTRY_IN_PLACE) BINARY_OF_FLOATS(ENTRY_IN_PLACE){NULL, NULL},
};
