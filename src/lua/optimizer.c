/* Optimizer updates, and their steps as tensors. */
#include <math.h>

#include "lua/binding.h"

static bool boolean_field(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static void check_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) argument_error(L, index, "table expected, got %s", luaL_typename(L, index));
}

/* Fields are read before tensors are checked: a table's __index may run Lua code. */
static SgdStep check_sgd(lua_State *L, int index) {
  check_table(L, index);
  return (SgdStep){.lr = (float)number_field(L, index, "lr", 1e-3),
                   .momentum = (float)number_field(L, index, "momentum", 0),
                   .dampening = (float)number_field(L, index, "dampening", 0),
                   .weight_decay = (float)number_field(L, index, "weight_decay", 0),
                   .nesterov = boolean_field(L, index, "nesterov"),
                   .first = boolean_field(L, index, "first")};
}

static AdamwStep check_adamw(lua_State *L, int index) {
  check_table(L, index);
  double beta1 = number_field(L, index, "beta1", 0.9), beta2 = number_field(L, index, "beta2", 0.999);
  double count = number_field(L, index, "step", 1);
  return (AdamwStep){.lr = (float)number_field(L, index, "lr", 1e-3),
                     .beta1 = (float)beta1,
                     .beta2 = (float)beta2,
                     .epsilon = (float)number_field(L, index, "epsilon", 1e-8),
                     .weight_decay = (float)number_field(L, index, "weight_decay", 0.01),
                     .correction1 = (float)(1 - pow(beta1, count)),
                     .correction2 = (float)(1 - pow(beta2, count))};
}

/* sgd_step(parameter, gradient, momentum buffer or nil, {lr =, momentum =, dampening =, weight_decay =, nesterov =,
 * first =}[, live]): `live` is a tensor from store_sgd_step, read in place of the table when the update runs */
static int lfp8_sgd_step(lua_State *L) {
  SgdStep step = check_sgd(L, 4);
  Tensor *parameter = check_tensor(L, 1);
  const Tensor *grad = check_tensor(L, 2);
  Tensor *buffer = optional_tensor(L, 3);
  step.live = optional_tensor(L, 5);
  return finish(L, op_sgd_step(parameter, grad, buffer, &step), 0);
}

/* adamw_step(parameter, gradient, m, v, {lr =, beta1 =, beta2 =, epsilon =, weight_decay =, step =}[, live]): step
 * counts from 1 */
static int lfp8_adamw_step(lua_State *L) {
  AdamwStep step = check_adamw(L, 5);
  Tensor *parameter = check_tensor(L, 1);
  const Tensor *grad = check_tensor(L, 2);
  Tensor *m = check_tensor(L, 3), *v = check_tensor(L, 4);
  step.live = optional_tensor(L, 6);
  return finish(L, op_adamw_step(parameter, grad, m, v, &step), 0);
}

/* new_live_step(device, "sgd" or "adamw") -> a tensor for one step, not written yet. Its memory is not the open
 * capture's: there it could be memory that earlier work of the graph writes too. */
static int lfp8_new_live_step(lua_State *L) {
  static const char *const kinds[] = {"sgd", "adamw", NULL};
  static const int64_t fields[] = {SGD_FIELDS, ADAMW_FIELDS};
  Device device = check_device(L, 1);
  int kind = luaL_checkoption(L, 2, NULL, kinds);
  return finish(L, op_create_lasting(new_tensor(L), DTYPE_F32, device, 1, &fields[kind]), 1);
}

/* store_sgd_step(live, step table), store_adamw_step(live, step table): what updates read from now on */
static int lfp8_store_sgd_step(lua_State *L) {
  SgdStep step = check_sgd(L, 2);
  float fields[SGD_FIELDS] = {step.lr, step.momentum, step.dampening, step.weight_decay, step.nesterov, step.first};
  return finish(L, op_store_fields(check_tensor(L, 1), fields, SGD_FIELDS), 0);
}

static int lfp8_store_adamw_step(lua_State *L) {
  AdamwStep step = check_adamw(L, 2);
  float fields[ADAMW_FIELDS] = {step.lr,           step.beta1,       step.beta2,      step.epsilon,
                                step.weight_decay, step.correction1, step.correction2};
  return finish(L, op_store_fields(check_tensor(L, 1), fields, ADAMW_FIELDS), 0);
}

const luaL_Reg optimizer_functions[] = {
    {"sgd_step", lfp8_sgd_step},
    {"adamw_step", lfp8_adamw_step},
    {"new_live_step", lfp8_new_live_step},
    {"store_sgd_step", lfp8_store_sgd_step},
    {"store_adamw_step", lfp8_store_adamw_step},
    {NULL, NULL},
};
