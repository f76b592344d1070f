/* Optimizer steps, and their numbers as tensors. */
#include "lua/binding/binding.h"

static const char *const rule_names[] = {[UPDATE_SGD] = "sgd",   [UPDATE_ADAMW] = "adamw",
                                         [UPDATE_ADAM] = "adam", [UPDATE_STABLE_ADAMW] = "stable_adamw",
                                         [UPDATE_LION] = "lion", NULL};

static UpdateStep check_step(lua_State *L, UpdateRule rule, int index) {
  check_table(L, index);
  static const char *const roundings[] = {"nearest", "stochastic", NULL};
  double usual_beta2 = rule == UPDATE_STABLE_ADAMW || rule == UPDATE_LION ? 0.99 : 0.999;
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
      .stochastic = choice_field(L, index, "rounding", roundings, "rounding must be 'nearest' or 'stochastic'") == 1,
  };
  return op_update_step(rule, &settings);
}

enum { TENSORS_A_PARAMETER = 7 };

/* The field "list" of the batch at index `batch`, which stays on the stack; sets *count. `argument` is the one that errors
 * speak of. */
static UpdateEntry *check_entries(lua_State *L, int batch, int argument, int *count) {
  push_field(L, batch, "list");
  check_field_type(L, argument, "list", LUA_TTABLE);
  int elements = (int)list_length(L, -1, argument);
  if (elements % TENSORS_A_PARAMETER != 0) {
    argument_error(L, argument, "%d elements for each parameter expected, got %d", TENSORS_A_PARAMETER, elements);
  }
  *count = elements / TENSORS_A_PARAMETER;
  Tensor **tensor = check_tensor_list(L, lua_gettop(L), elements, true);
  UpdateEntry *list = lua_newuserdata(L, ((size_t)*count + 1) * sizeof *list);
  for (int i = 0; i < *count; i++, tensor += TENSORS_A_PARAMETER) {
    list[i] = (UpdateEntry){.parameter = tensor[0],
                            .grad = tensor[1],
                            .first = tensor[2],
                            .second = tensor[3],
                            .master = tensor[4],
                            .first_scale = tensor[5],
                            .second_scale = tensor[6]};
  }
  return list;
}

/* Reads the batch on top of the stack. What it has to keep alive goes to the table `anchors`. */
static UpdateBatch check_batch(lua_State *L, int anchors) {
  int index = lua_gettop(L);
  if (!lua_istable(L, index)) argument_error(L, 1, "a list of tables expected, got a %s", luaL_typename(L, index));
  UpdateRule rule = (UpdateRule)choice_field(L, index, "rule", rule_names, "rule must be that of an optimizer");
  UpdateBatch batch = {.update = {.rule = rule}};
  Update *update = &batch.update;
  push_field(L, index, "settings");
  check_field_type(L, 1, "settings", LUA_TTABLE);
  update->step = check_step(L, rule, lua_gettop(L));
  update->live = optional_tensor_field(L, index, "live");
  update->list = check_entries(L, index, 1, &update->count);
  batch.coded = push_field(L, index, "first_format") != LUA_TNIL;
  if (batch.coded) {
    batch.first = check_quantizer(L, lua_gettop(L));
    push_field(L, index, "second_format");
    batch.second = check_quantizer(L, lua_gettop(L));
  }
  while (lua_gettop(L) > index) lua_rawseti(L, anchors, (int)lua_objlen(L, anchors) + 1);
  return batch;
}

/* update(batches, fields, count): one step of all batches or, with an error, nothing. A batch is of parameters on one
 * device, {rule = "sgd" (or another of rule_names), list =, settings =, live = nil, first_format = nil,
 * second_format = nil}. The list holds parameter, gradient, first moment, second moment, master, and the scales of the
 * first and of the second moment of each, one after the other, false for what there is not. Settings: {lr =,
 * weight_decay =, step = (from 1), rounding = "nearest" or "stochastic"}, and momentum, dampening and nesterov or beta1,
 * beta2 and epsilon. `live` is a tensor from store_step, read in place of the settings when the update runs. The formats
 * are quantizers, of moments that have scales. With the step `fields` are set, `count` times a table, a key and a value,
 * as commit does; they have values before. */
static int lfp8_update(lua_State *L) {
  enum { BATCHES = 1, FIELDS, COUNT, ANCHORS };
  lua_settop(L, COUNT);
  check_table(L, BATCHES);
  int fields = own_field_list(L, FIELDS, COUNT), count = (int)list_length(L, BATCHES, BATCHES);
  lua_newtable(L);
  UpdateBatch *batches = lua_newuserdata(L, ((size_t)count + 1) * sizeof *batches);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, BATCHES, i + 1);
    batches[i] = check_batch(L, ANCHORS);
    lua_pop(L, 1);
  }
  bool done = op_update(batches, count);
  if (done) set_fields(L, FIELDS, fields);
  return finish(L, done, 0);
}

/* update_words(batch of update) -> how many random words a stochastic step of it takes */
static int lfp8_update_words(lua_State *L) {
  check_table(L, 1);
  int count;
  const UpdateEntry *list = check_entries(L, 1, 1, &count);
  for (int i = 0; i < count; i++) {
    if (!list[i].parameter) argument_error(L, 1, "parameter %d is missing", i + 1);
  }
  push_integer(L, op_update_words(list, count));
  return 1;
}

/* new_live_step(device) -> a tensor for the numbers of one step, not written yet. Its memory is not the open capture's:
 * there it could be memory that earlier work of the graph writes too. */
static int lfp8_new_live_step(lua_State *L) {
  static const int64_t fields = UPDATE_FIELDS;
  Device device = check_device(L, 1);
  return finish(L, op_create_lasting(new_tensor(L), DTYPE_F32, device, 1, &fields), 1);
}

/* store_step(live, rule, settings, words): what updates read from now on; a stochastic step draws so many random words */
static int lfp8_store_step(lua_State *L) {
  UpdateRule rule = (UpdateRule)luaL_checkoption(L, 2, NULL, rule_names);
  UpdateStep step = check_step(L, rule, 3);
  int64_t words = check_whole(L, 4);
  if (words < 0) argument_error(L, 4, "a number of at least 0 expected");
  Tensor *live = check_tensor(L, 1);
  op_draw_step(&step, words);
  return finish(L, op_store_step(live, &step), 0);
}

/* clip_grad_norm(list of tensors, largest [, measured]) -> their 2-norm, an f32 tensor without dimensions; or that of the
 * first `measured`, by which only the others are scaled */
static int lfp8_clip_grad_norm(lua_State *L) {
  check_table(L, 1);
  double largest = check_double(L, 2);
  int count = (int)list_length(L, 1, 1);
  int64_t measured = lua_isnoneornil(L, 3) ? count : check_whole(L, 3);
  if (measured < 0 || measured > count) argument_error(L, 3, "a number from 0 to %d expected", count);
  Tensor **list = check_tensor_list(L, 1, count, false);
  return finish(L, op_clip_norm(new_tensor(L), list, (int)measured, count, largest), 1);
}

const luaL_Reg optim_functions[] = {
    {"update", lfp8_update},         {"update_words", lfp8_update_words},     {"new_live_step", lfp8_new_live_step},
    {"store_step", lfp8_store_step}, {"clip_grad_norm", lfp8_clip_grad_norm}, {NULL, NULL},
};
