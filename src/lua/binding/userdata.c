/* Tensors as userdata, and what autograd attaches to them. */
#include <string.h>

#include "lua/binding/scope.h"

Tensor *new_tensor(lua_State *L) {
  TensorBox *box = lua_newuserdata(L, sizeof *box);
  memset(box, 0, sizeof *box);
  lua_pushvalue(L, lua_upvalueindex(2));
  lua_setmetatable(L, -2);
  enter_scope(box, state_now()->innermost);
  return &box->tensor;
}

bool is_in_use(const State *state, const TensorBox *box) {
  for (int i = 0; i < state->context->calls - 1; i++) {
    if (box->call == state->calls[i].number) return true;
  }
  return false;
}

/* NULL if the value is no tensor. */
static TensorBox *box_at(lua_State *L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  bool is_tensor = lua_rawequal(L, -1, lua_upvalueindex(2));
  lua_pop(L, 1);
  return is_tensor ? lua_touserdata(L, index) : NULL;
}

void use_tensor(Tensor *tensor) {
  TensorBox *box = (TensorBox *)tensor;
  const State *state = state_now();
  if (!is_in_use(state, box)) box->call = state->calls[state->context->calls - 1].number;
}

Tensor *to_tensor(lua_State *L, int index) {
  TensorBox *box = box_at(L, index);
  if (!box) return NULL;
  use_tensor(&box->tensor);
  return &box->tensor;
}

static const char *type_name(lua_State *L, int index) {
  return lua_isnone(L, index) ? "nothing" : luaL_typename(L, index);
}

Tensor *check_tensor(lua_State *L, int index) {
  Tensor *tensor = to_tensor(L, index);
  if (!tensor) argument_error(L, index, "tensor expected, got %s", type_name(L, index));
  if (!tensor->storage) argument_error(L, index, "this tensor was freed: it was made in a scope that has ended");
  return tensor;
}

Tensor *optional_tensor(lua_State *L, int index) { return lua_isnoneornil(L, index) ? NULL : check_tensor(L, index); }

bool get_requires_grad(const Tensor *tensor) { return ((const TensorBox *)tensor)->requires_grad; }

static void set_requires_grad(Tensor *tensor, bool requires_grad) {
  ((TensorBox *)tensor)->requires_grad = requires_grad;
}

static bool check_can_require_grad(const Tensor *tensor) {
  return dtype_is_compute_float(tensor->dtype) ||
         error_set("a tensor of dtype %s can't require a gradient", dtype_name(tensor->dtype));
}

int finish_new(lua_State *L, bool ok, Tensor *tensor, const Options *options) {
  if (ok && options->requires_grad) ok = check_can_require_grad(tensor);
  if (ok) set_requires_grad(tensor, options->requires_grad);
  return finish(L, ok, 1);
}

static int collect(lua_State *L) {
  TensorBox *box = box_at(L, 1);
  if (!box) return 0;
  leave_scope(box);
  tensor_release(&box->tensor);
  return 0;
}

void open_userdata(lua_State *L) {
  luaL_newmetatable(L, "fp8.Tensor");
  set_finalizer(L, "fp8.Tensor", collect);
}

/* is_tensor(value) -> boolean */
static int lfp8_is_tensor(lua_State *L) {
  lua_pushboolean(L, to_tensor(L, 1) != NULL);
  return 1;
}

/* requires_grad(tensor[, current]) -> boolean, of a freed tensor too; with true for `current` an error if its memory has been
 * assigned to, and that recorded, through another tensor since this one was made: autograd does not know what is in it */
static int lfp8_requires_grad(lua_State *L) {
  const TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  const Storage *storage = box->tensor.storage;
  if (storage && box->history != storage->history && lua_toboolean(L, 2)) {
    lua_pushliteral(L, "autograd: this tensor shares its memory with one that was assigned to after it was made: take "
                       "the view after the assignment, and assign as x[{i, j}] = value, not as x[i][j] = value");
    return raise_at_caller(L);
  }
  lua_pushboolean(L, box->requires_grad);
  return 1;
}

/* set_requires_grad(tensor, boolean): f32, f16 and bf16 tensors only */
static int lfp8_set_requires_grad(lua_State *L) {
  Tensor *tensor = check_tensor(L, 1);
  bool requires_grad = lua_toboolean(L, 2);
  if (requires_grad && !check_can_require_grad(tensor)) argument_error(L, 1, "%s", error_message());
  set_requires_grad(tensor, requires_grad);
  return 0;
}

/* autograd(tensor) -> the table attached with set_autograd, or nil */
static int lfp8_autograd(lua_State *L) {
  const TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (!box->has_autograd) return 0;
  lua_getfenv(L, 1);
  return 1;
}

/* set_autograd(tensor, table or nil[, assigned]): attaches a table that lives as long as the tensor: its environment, so
 * that the collector sees cycles through it. With true for `assigned` it records a change in place. */
static int lfp8_set_autograd(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (!lua_isnoneornil(L, 2) && !lua_istable(L, 2))
    argument_error(L, 2, "table or nil expected, got %s", luaL_typename(L, 2));
  Storage *storage = box->tensor.storage;
  if (storage && lua_toboolean(L, 3)) storage->history++;
  lua_settop(L, 2);
  box->has_autograd = lua_istable(L, 2);
  if (storage) box->history = storage->history;
  if (!box->has_autograd) lua_pushvalue(L, LUA_GLOBALSINDEX);
  lua_setfenv(L, 1);
  return 0;
}

/* free(tensor): gives its memory up at once; for tensors that no script has seen. One that is in use in a call that this
 * interrupts is left to the collector. */
static int lfp8_free(lua_State *L) {
  TensorBox *box = (TensorBox *)to_tensor(L, 1);
  if (!box) check_tensor(L, 1);
  if (is_in_use(state_now(), box)) return 0;
  leave_scope(box);
  tensor_release(&box->tensor);
  return 0;
}

const luaL_Reg userdata_functions[] = {
    {"is_tensor", lfp8_is_tensor},
    {"requires_grad", lfp8_requires_grad},
    {"set_requires_grad", lfp8_set_requires_grad},
    {"autograd", lfp8_autograd},
    {"set_autograd", lfp8_set_autograd},
    {"free", lfp8_free},
    {NULL, NULL},
};
