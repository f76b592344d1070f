/* Arithmetic, reductions, products and indexing. */
#include <math.h>

#include "lua/binding.h"

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
  double low = lua_isnoneornil(L, 2) ? -INFINITY : check_number(L, 2);
  double high = lua_isnoneornil(L, 3) ? INFINITY : check_number(L, 3);
  return finish(L, op_clamp(new_tensor(L), x, low, high), 1);
}

static int reduce(lua_State *L, ReduceOp op) {
  const Tensor *x = check_tensor(L, 1);
  DimensionSet dimensions = check_dimensions(L, 2, x->rank);
  bool keep = optional_boolean(L, 3, false);
  return finish(L, op_reduce(op, new_tensor(L), x, dimensions, keep), 1);
}

/* sum(x, dimensions, keepdim) … argmax(x, dimensions, keepdim): over all dimensions where none are given; argmax counts
 * positions from 0, row-major over the reduced dimensions */
static int lfp8_sum(lua_State *L) { return reduce(L, REDUCE_SUM); }
static int lfp8_mean(lua_State *L) { return reduce(L, REDUCE_MEAN); }
static int lfp8_max(lua_State *L) { return reduce(L, REDUCE_MAX); }
static int lfp8_min(lua_State *L) { return reduce(L, REDUCE_MIN); }
static int lfp8_argmax(lua_State *L) { return reduce(L, REDUCE_ARGMAX); }

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

/* matmul(a, b[, bias (n)[, dtype]]) -> (…, m, n), of the operands' dtype or f32 */
static int lfp8_matmul(lua_State *L) {
  const Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2), *bias = optional_tensor(L, 3);
  DType dtype = lua_isnoneornil(L, 4) ? a->dtype : check_dtype(L, 4);
  return finish(L, op_matmul(new_tensor(L), a, b, bias, dtype), 1);
}

/* matrices(x) -> x, or a contiguous copy where matmul would have to make one each time */
static int lfp8_matrices(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  return finish(L, op_matrices(new_tensor(L), x), 1);
}

/* Reads a list of tensors at index 1 into a buffer that is pushed. */
static const Tensor **check_list(lua_State *L, int *count) {
  if (!lua_istable(L, 1)) argument_error(L, 1, "list of tensors expected, got %s", luaL_typename(L, 1));
  *count = (int)lua_objlen(L, 1);
  if (*count == 0) argument_error(L, 1, "the list is empty");
  const Tensor **list = lua_newuserdata(L, (size_t)*count * sizeof *list);
  for (int i = 0; i < *count; i++) {
    lua_rawgeti(L, 1, i + 1);
    list[i] = to_tensor(L, -1);
    if (!list[i]) argument_error(L, 1, "element %d: tensor expected, got %s", i + 1, luaL_typename(L, -1));
    if (!list[i]->storage)
      argument_error(L, 1, "element %d: this tensor was freed: it was made in a scope that has ended", i + 1);
    lua_pop(L, 1);
  }
  return list;
}

/* cat(list, dimension): tensors joined along a dimension that they have */
static int lfp8_cat(lua_State *L) {
  int count;
  const Tensor **list = check_list(L, &count);
  int dimension = lua_isnoneornil(L, 2) ? 0 : check_dimension(L, 2, list[0]->rank);
  if (list[0]->rank == 0) argument_error(L, 1, "tensors without dimensions can't be joined; use stack");
  return finish(L, op_cat(new_tensor(L), list, count, dimension), 1);
}

/* stack(list, dimension): tensors of one shape joined along a new dimension */
static int lfp8_stack(lua_State *L) {
  lua_settop(L, 2);
  int count;
  const Tensor **list = check_list(L, &count);
  int dimension = lua_isnoneornil(L, 2) ? 0 : check_dimension(L, 2, list[0]->rank + 1);
  return finish(L, op_stack(new_tensor(L), list, count, dimension), 1);
}

/* index_select(x, dimension, index): the rows that a list of positions, counted from 0, names */
static int lfp8_index_select(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  const Tensor *index = check_tensor(L, 3);
  return finish(L, op_index_select(new_tensor(L), x, dimension, index), 1);
}

/* gather(x, dimension, index): out[.., i, ..] = x[.., index[.., i, ..], ..], positions counted from 0 */
static int lfp8_gather(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  int dimension = check_dimension(L, 2, x->rank);
  const Tensor *index = check_tensor(L, 3);
  return finish(L, op_gather(new_tensor(L), x, dimension, index), 1);
}

/* The first four arguments of both functions below: where source's rows or elements are added. */
typedef struct Addition {
  Sizes sizes;
  int dimension;
  const Tensor *index, *source;
} Addition;

static Addition check_addition(lua_State *L) {
  Addition addition;
  int next;
  if (!lua_istable(L, 1)) argument_error(L, 1, "table of sizes expected, got %s", luaL_typename(L, 1));
  addition.sizes = check_sizes(L, 1, &next);
  addition.dimension = check_dimension(L, 2, addition.sizes.rank);
  addition.index = check_tensor(L, 3);
  addition.source = check_tensor(L, 4);
  return addition;
}

/* index_add(sizes, dimension, index, source[, dtype]): zeros of these sizes, f32 or the dtype, plus the source's rows
 * at the index: the derivative of index_select */
static int lfp8_index_add(lua_State *L) {
  Addition a = check_addition(L);
  DType dtype = lua_isnoneornil(L, 5) ? DTYPE_F32 : check_dtype(L, 5);
  return finish(L, op_index_add(new_tensor(L), a.sizes.rank, a.sizes.size, a.dimension, a.index, a.source, dtype), 1);
}

/* scatter_add(sizes, dimension, index, source): f32 zeros of these sizes plus the source's elements at the index: the
 * derivative of gather */
static int lfp8_scatter_add(lua_State *L) {
  Addition a = check_addition(L);
  return finish(L, op_scatter_add(new_tensor(L), a.sizes.rank, a.sizes.size, a.dimension, a.index, a.source), 1);
}

const luaL_Reg compute_functions[] = {
    {"neg", lfp8_neg},
    {"abs", lfp8_abs},
    {"exp", lfp8_exp},
    {"log", lfp8_log},
    {"sqrt", lfp8_sqrt},
    {"rsqrt", lfp8_rsqrt},
    {"tanh", lfp8_tanh},
    {"sigmoid", lfp8_sigmoid},
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
    {"relu_backward", lfp8_relu_backward},
    {"gelu_backward", lfp8_gelu_backward},
    {"gelu_tanh_backward", lfp8_gelu_tanh_backward},
    {"silu_backward", lfp8_silu_backward},
    {"add_", lfp8_add_},
    {"sub_", lfp8_sub_},
    {"mul_", lfp8_mul_},
    {"div_", lfp8_div_},
    {"where", lfp8_where},
    {"masked_fill", lfp8_masked_fill},
    {"clamp", lfp8_clamp},
    {"sum", lfp8_sum},
    {"mean", lfp8_mean},
    {"max", lfp8_max},
    {"min", lfp8_min},
    {"argmax", lfp8_argmax},
    {"softmax", lfp8_softmax},
    {"log_softmax", lfp8_log_softmax},
    {"softmax_backward", lfp8_softmax_backward},
    {"matmul", lfp8_matmul},
    {"matrices", lfp8_matrices},
    {"cat", lfp8_cat},
    {"stack", lfp8_stack},
    {"index_select", lfp8_index_select},
    {"gather", lfp8_gather},
    {"index_add", lfp8_index_add},
    {"scatter_add", lfp8_scatter_add},
    {NULL, NULL},
};
