/* Optimizer steps, and their numbers as tensors. */
#include "lua/binding/binding.h"

static const char *const rule_names[] = {
    [UPDATE_SGD] = "sgd", [UPDATE_ADAMW] = "adamw", [UPDATE_STABLE_ADAMW] = "stable_adamw", NULL};

static UpdateStep check_step(lua_State *L, UpdateRule rule, int index) {
  check_table(L, index);
  double usual_beta2 = rule == UPDATE_STABLE_ADAMW ? 0.99 : 0.999;
  UpdateSettings settings = {
      .lr = number_field(L, index, "lr", 1e-3),
      .weight_decay = number_field(L, index, "weight_decay", 0),
      .step = number_field(L, index, "step", 1),
      .momentum = number_field(L, index, "momentum", 0),
      .dampening = number_field(L, index, "dampening", 0),
      .nesterov = boolean_field(L, index, "nesterov"),
      .beta1 = number_field(L, index, "beta1", 0.9),
      .beta2 = number_field(L, index, "beta2", usual_beta2),
      .epsilon = number_field(L, index, "epsilon", 1e-8),
  };
  return op_update_step(rule, &settings);
}

/* Reads the arguments of update. The list is in a buffer that is pushed. */
static Update check_update(lua_State *L) {
  lua_settop(L, 4);
  Update update = {.rule = (UpdateRule)luaL_checkoption(L, 1, NULL, rule_names)};
  check_table(L, 2);
  update.step = check_step(L, update.rule, 3);
  update.live = optional_tensor(L, 4);
  enum { FIELDS = 5 };
  int elements = (int)list_length(L, 2, 2);
  if (elements % FIELDS != 0) argument_error(L, 2, "%d elements for each parameter expected, got %d", FIELDS, elements);
  update.count = elements / FIELDS;
  Tensor **tensor = check_tensor_list(L, 2, elements, true);
  UpdateEntry *list = lua_newuserdata(L, ((size_t)update.count + 1) * sizeof *list);
  for (int i = 0; i < update.count; i++, tensor += FIELDS) {
    list[i] = (UpdateEntry){tensor[0], tensor[1], tensor[2], tensor[3], tensor[4]};
  }
  update.list = list;
  return update;
}

/* update("sgd", "adamw" or "stable_adamw", list, settings[, live]): one step of parameters on one device. The list
 * holds parameter, gradient, first moment, second moment and master of each, one after the other, false for what there
 * is not. Settings: {lr =, weight_decay =, step = (from 1)}, and momentum, dampening and nesterov or beta1, beta2 and
 * epsilon. `live` is a tensor from store_step, read in place of the settings when the update runs. */
static int lfp8_update(lua_State *L) {
  Update update = check_update(L);
  return finish(L, op_update(&update), 0);
}

/* check_update(…): raises the error that `update` would raise, and does nothing */
static int lfp8_check_update(lua_State *L) {
  Update update = check_update(L);
  return finish(L, op_check_update(&update), 0);
}

/* new_live_step(device) -> a tensor for the numbers of one step, not written yet. Its memory is not the open capture's:
 * there it could be memory that earlier work of the graph writes too. */
static int lfp8_new_live_step(lua_State *L) {
  static const int64_t fields = UPDATE_FIELDS;
  Device device = check_device(L, 1);
  return finish(L, op_create_lasting(new_tensor(L), DTYPE_F32, device, 1, &fields), 1);
}

/* store_step(live, rule, settings): what updates read from now on */
static int lfp8_store_step(lua_State *L) {
  UpdateRule rule = (UpdateRule)luaL_checkoption(L, 2, NULL, rule_names);
  UpdateStep step = check_step(L, rule, 3);
  return finish(L, op_store_step(check_tensor(L, 1), &step), 0);
}

/* clip_grad_norm(list of tensors, largest) -> their 2-norm, an f32 tensor without dimensions */
static int lfp8_clip_grad_norm(lua_State *L) {
  check_table(L, 1);
  double largest = check_double(L, 2);
  int count = (int)list_length(L, 1, 1);
  Tensor **list = check_tensor_list(L, 1, count, false);
  return finish(L, op_clip_norm(new_tensor(L), list, count, largest), 1);
}

const luaL_Reg optim_functions[] = {
    {"update", lfp8_update},         {"check_update", lfp8_check_update},     {"new_live_step", lfp8_new_live_step},
    {"store_step", lfp8_store_step}, {"clip_grad_norm", lfp8_clip_grad_norm}, {NULL, NULL},
};
