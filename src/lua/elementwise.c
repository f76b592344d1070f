/* Elementwise arithmetic. */
#include <math.h>

#include "lua/binding/binding.h"

static int unary(lua_State *L, UnaryOp op) {
  const Tensor *x = check_tensor(L, 1);
  return finish(L, op_unary(op, new_tensor(L), x), 1);
}

/* neg(x) … silu(x): elementwise; exp and those after it give f32 for integers */
static int lfp8_neg(lua_State *L) { return unary(L, UNARY_NEG); }
static int lfp8_abs(lua_State *L) { return unary(L, UNARY_ABS); }
static int lfp8_exp(lua_State *L) { return unary(L, UNARY_EXP); }
static int lfp8_log(lua_State *L) { return unary(L, UNARY_LOG); }
static int lfp8_sqrt(lua_State *L) { return unary(L, UNARY_SQRT); }
static int lfp8_rsqrt(lua_State *L) { return unary(L, UNARY_RSQRT); }
static int lfp8_tanh(lua_State *L) { return unary(L, UNARY_TANH); }
static int lfp8_sigmoid(lua_State *L) { return unary(L, UNARY_SIGMOID); }
static int lfp8_sin(lua_State *L) { return unary(L, UNARY_SIN); }
static int lfp8_relu(lua_State *L) { return unary(L, UNARY_RELU); }
static int lfp8_gelu(lua_State *L) { return unary(L, UNARY_GELU); }
static int lfp8_gelu_tanh(lua_State *L) { return unary(L, UNARY_GELU_TANH); }
static int lfp8_silu(lua_State *L) { return unary(L, UNARY_SILU); }

static int binary(lua_State *L, BinaryOp op) {
  Operand a = check_operand(L, 1), b = check_operand(L, 2);
  return finish(L, op_binary(op, new_tensor(L), a, b), 1);
}

/* add(a, b) … ge(a, b): elementwise on tensors and numbers; comparisons give u8 */
static int lfp8_add(lua_State *L) { return binary(L, BINARY_ADD); }
static int lfp8_sub(lua_State *L) { return binary(L, BINARY_SUB); }
static int lfp8_mul(lua_State *L) { return binary(L, BINARY_MUL); }
static int lfp8_div(lua_State *L) { return binary(L, BINARY_DIV); }
static int lfp8_pow(lua_State *L) { return binary(L, BINARY_POW); }
static int lfp8_maximum(lua_State *L) { return binary(L, BINARY_MAXIMUM); }
static int lfp8_minimum(lua_State *L) { return binary(L, BINARY_MINIMUM); }
static int lfp8_eq(lua_State *L) { return binary(L, BINARY_EQ); }
static int lfp8_ne(lua_State *L) { return binary(L, BINARY_NE); }
static int lfp8_lt(lua_State *L) { return binary(L, BINARY_LT); }
static int lfp8_le(lua_State *L) { return binary(L, BINARY_LE); }
static int lfp8_gt(lua_State *L) { return binary(L, BINARY_GT); }
static int lfp8_ge(lua_State *L) { return binary(L, BINARY_GE); }

/* tanh_backward(grad, y) … silu_backward(grad, x): the gradient of the operation's input */
static int lfp8_tanh_backward(lua_State *L) { return binary(L, BINARY_TANH_BACKWARD); }
static int lfp8_sigmoid_backward(lua_State *L) { return binary(L, BINARY_SIGMOID_BACKWARD); }
static int lfp8_sin_backward(lua_State *L) { return binary(L, BINARY_SIN_BACKWARD); }
static int lfp8_relu_backward(lua_State *L) { return binary(L, BINARY_RELU_BACKWARD); }
static int lfp8_gelu_backward(lua_State *L) { return binary(L, BINARY_GELU_BACKWARD); }
static int lfp8_gelu_tanh_backward(lua_State *L) { return binary(L, BINARY_GELU_TANH_BACKWARD); }
static int lfp8_silu_backward(lua_State *L) { return binary(L, BINARY_SILU_BACKWARD); }

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

/* scale_(x, factor): x times an f32 tensor of one element, in place; free where that is 1 */
static int lfp8_scale_(lua_State *L) {
  Tensor *x = check_tensor(L, 1);
  bool ok = op_scale_in_place(x, check_tensor(L, 2));
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

const luaL_Reg elementwise_functions[] = {
    {"neg", lfp8_neg},
    {"abs", lfp8_abs},
    {"exp", lfp8_exp},
    {"log", lfp8_log},
    {"sqrt", lfp8_sqrt},
    {"rsqrt", lfp8_rsqrt},
    {"tanh", lfp8_tanh},
    {"sigmoid", lfp8_sigmoid},
    {"sin", lfp8_sin},
    {"relu", lfp8_relu},
    {"gelu", lfp8_gelu},
    {"gelu_tanh", lfp8_gelu_tanh},
    {"silu", lfp8_silu},
    {"add", lfp8_add},
    {"sub", lfp8_sub},
    {"mul", lfp8_mul},
    {"div", lfp8_div},
    {"pow", lfp8_pow},
    {"maximum", lfp8_maximum},
    {"minimum", lfp8_minimum},
    {"eq", lfp8_eq},
    {"ne", lfp8_ne},
    {"lt", lfp8_lt},
    {"le", lfp8_le},
    {"gt", lfp8_gt},
    {"ge", lfp8_ge},
    {"tanh_backward", lfp8_tanh_backward},
    {"sigmoid_backward", lfp8_sigmoid_backward},
    {"sin_backward", lfp8_sin_backward},
    {"relu_backward", lfp8_relu_backward},
    {"gelu_backward", lfp8_gelu_backward},
    {"gelu_tanh_backward", lfp8_gelu_tanh_backward},
    {"silu_backward", lfp8_silu_backward},
    {"add_", lfp8_add_},
    {"sub_", lfp8_sub_},
    {"mul_", lfp8_mul_},
    {"div_", lfp8_div_},
    {"scale_", lfp8_scale_},
    {"where", lfp8_where},
    {"masked_fill", lfp8_masked_fill},
    {"clamp", lfp8_clamp},
    {NULL, NULL},
};
