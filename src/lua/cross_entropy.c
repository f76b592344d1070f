/* The cross-entropy loss. */
#include "lua/binding/binding.h"

enum { ARGUMENTS_MOST = 5 };

CrossEntropy check_cross_entropy(lua_State *L, int index, int64_t *ignored) {
  static const char *const fields[] = {"weight", "smoothing", "ignored", NULL};
  CrossEntropy rows = {.logits = check_tensor(L, 1), .target = check_tensor(L, 2)};
  if (lua_isnoneornil(L, index)) return rows;
  check_fields(L, index, fields);
  rows.smoothing = (float)number_field(L, index, "smoothing", 0);
  if (push_field(L, index, "ignored") != LUA_TNIL) {
    Number number;
    if (!to_number(L, -1, index, &number) || !number_is_integer(number)) {
      argument_error(L, index, "ignored: an integer expected, got %s", luaL_typename(L, -1));
    }
    *ignored = number.integer;
    rows.ignored = ignored;
  }
  lua_pop(L, 1);
  rows.weight = optional_tensor_field(L, index, "weight");
  return rows;
}

/* cross_entropy(logits (n, classes), targets (n), from 0[, rule or nil[, gradient of the losses (n)[, in_place]]]) ->
 * losses (n), f32; statistics (n, 2) for the gradient, or the gradient of the logits itself, in their place if `in_place` */
static int lfp8_cross_entropy(lua_State *L) {
  int64_t ignored;
  lua_settop(L, ARGUMENTS_MOST);
  CrossEntropy rows = check_cross_entropy(L, 3, &ignored);
  const Tensor *dloss = optional_tensor(L, 4);
  bool in_place = optional_boolean(L, 5, false);
  Tensor *out = new_tensor(L);
  if (in_place) {
    if (!dloss) return argument_error(L, 4, "a gradient in place of the logits needs that of the losses");
    bool ok = op_cross_entropy_gradient_in_place(out, check_tensor(L, 1), &rows, dloss);
    lua_pushvalue(L, 1);
    return finish(L, ok, 2);
  }
  Tensor *second = new_tensor(L);
  return finish(L, dloss ? op_cross_entropy_gradient(out, second, &rows, dloss) : op_cross_entropy(out, second, &rows),
                2);
}

/* cross_entropy_backward(logits, targets, statistics, gradient of the losses (n)[, rule]) -> gradient of the logits */
static int lfp8_cross_entropy_backward(lua_State *L) {
  const Tensor *statistics = check_tensor(L, 3), *dloss = check_tensor(L, 4);
  int64_t ignored;
  lua_settop(L, ARGUMENTS_MOST);
  CrossEntropy rows = check_cross_entropy(L, 5, &ignored);
  return finish(L, op_cross_entropy_backward(new_tensor(L), &rows, statistics, dloss), 1);
}

const luaL_Reg cross_entropy_functions[] = {
    {"cross_entropy", lfp8_cross_entropy},
    {"cross_entropy_backward", lfp8_cross_entropy_backward},
    {NULL, NULL},
};
