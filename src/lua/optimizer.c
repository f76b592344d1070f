/* Optimizer steps, and their numbers as tensors. */
#include <math.h>

#include "lua/binding.h"

static const char *const rule_names[] = {"sgd", "adamw", "stable_adamw", NULL};

static bool boolean_field(lua_State *L, int table, const char *name) {
  lua_getfield(L, table, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static void check_table(lua_State *L, int index) {
  if (!lua_istable(L, index)) argument_error(L, index, "table expected, got %s", luaL_typename(L, index));
}

/* Derived numbers are worked out in double: 1 - beta2 in float32 would be off by 1e-5 of itself. */
static UpdateStep sgd_step(lua_State *L, int index, double lr, double count) {
  double momentum = number_field(L, index, "momentum", 0), dampening = number_field(L, index, "dampening", 0);
  /* The first gradient enters the buffer as it is. */
  return (UpdateStep){.rate = (float)lr,
                      .beta1 = (float)momentum,
                      .fraction1 = momentum == 0 || count == 1 ? 1.0f : (float)(1 - dampening),
                      .nesterov = boolean_field(L, index, "nesterov")};
}

static UpdateStep adamw_step(lua_State *L, int index, double lr, double count) {
  double beta1 = number_field(L, index, "beta1", 0.9), beta2 = number_field(L, index, "beta2", 0.999);
  return (UpdateStep){.rate = (float)(lr / (1 - pow(beta1, count))),
                      .beta1 = (float)beta1,
                      .fraction1 = (float)(1 - beta1),
                      .beta2 = (float)beta2,
                      .fraction2 = (float)(1 - beta2),
                      .root_scale = (float)(1 / sqrt(1 - pow(beta2, count))),
                      .epsilon = (float)number_field(L, index, "epsilon", 1e-8)};
}

/* The paper corrects the betas instead of the moments: beta (1 - beta^(t - 1)) / (1 - beta^t). */
static UpdateStep stable_adamw_step(lua_State *L, int index, double lr, double count) {
  double beta1 = number_field(L, index, "beta1", 0.9), beta2 = number_field(L, index, "beta2", 0.99);
  double part1 = (1 - beta1) / (1 - pow(beta1, count)), part2 = (1 - beta2) / (1 - pow(beta2, count));
  return (UpdateStep){.rate = (float)lr,
                      .beta1 = (float)(1 - part1),
                      .fraction1 = (float)part1,
                      .beta2 = (float)(1 - part2),
                      .fraction2 = (float)part2,
                      .root_scale = 1,
                      .epsilon = (float)number_field(L, index, "epsilon", 1e-8)};
}

/* Fields are read before tensors are checked: a table's __index may run Lua code. */
static UpdateStep check_step(lua_State *L, UpdateRule rule, int index) {
  static UpdateStep (*const steps[UPDATE_RULE_COUNT])(lua_State *, int, double, double) = {
      [UPDATE_SGD] = sgd_step, [UPDATE_ADAMW] = adamw_step, [UPDATE_STABLE_ADAMW] = stable_adamw_step};
  check_table(L, index);
  double lr = number_field(L, index, "lr", 1e-3);
  UpdateStep step = steps[rule](L, index, lr, number_field(L, index, "step", 1));
  step.lr = (float)lr;
  step.weight_decay = (float)number_field(L, index, "weight_decay", 0);
  return step;
}

/* Element `position` of the table at `index`: a tensor, or NULL for false. */
static Tensor *list_element(lua_State *L, int index, int position) {
  lua_rawgeti(L, index, position);
  Tensor *tensor = to_tensor(L, -1);
  if (!tensor && lua_toboolean(L, -1)) {
    argument_error(L, index, "element %d: tensor or false expected, got %s", position, luaL_typename(L, -1));
  }
  if (tensor && !tensor->storage) {
    argument_error(L, index, "element %d: this tensor was freed: it was made in a scope that has ended", position);
  }
  lua_pop(L, 1);
  return tensor;
}

/* Reads the arguments of update. The list is in a buffer that is pushed. */
static Update check_update(lua_State *L) {
  lua_settop(L, 4);
  Update update = {.rule = (UpdateRule)luaL_checkoption(L, 1, NULL, rule_names)};
  check_table(L, 2);
  update.step = check_step(L, update.rule, 3);
  update.live = optional_tensor(L, 4);
  enum { FIELDS = 5 };
  int elements = (int)lua_objlen(L, 2);
  if (elements % FIELDS != 0) argument_error(L, 2, "%d elements for each parameter expected, got %d", FIELDS, elements);
  update.count = elements / FIELDS;
  UpdateEntry *list = lua_newuserdata(L, ((size_t)update.count + 1) * sizeof *list);
  for (int i = 0; i < update.count; i++) {
    list[i] = (UpdateEntry){.parameter = list_element(L, 2, FIELDS * i + 1),
                            .grad = list_element(L, 2, FIELDS * i + 2),
                            .first = list_element(L, 2, FIELDS * i + 3),
                            .second = list_element(L, 2, FIELDS * i + 4),
                            .master = list_element(L, 2, FIELDS * i + 5)};
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
  double largest = check_number(L, 2);
  int count = (int)lua_objlen(L, 1);
  Tensor **list = lua_newuserdata(L, ((size_t)count + 1) * sizeof *list);
  for (int i = 0; i < count; i++) {
    list[i] = list_element(L, 1, i + 1);
    if (!list[i]) argument_error(L, 1, "element %d: tensor expected, got false", i + 1);
  }
  return finish(L, op_clip_norm(new_tensor(L), list, count, largest), 1);
}

const luaL_Reg optimizer_functions[] = {
    {"update", lfp8_update},         {"check_update", lfp8_check_update},     {"new_live_step", lfp8_new_live_step},
    {"store_step", lfp8_store_step}, {"clip_grad_norm", lfp8_clip_grad_norm}, {NULL, NULL},
};
