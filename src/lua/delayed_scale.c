/* Delayed scaling. */
#include <string.h>

#include "lua/binding/binding.h"

HistoryRecord optional_record(lua_State *L, int index) {
  if (lua_type(L, index) == LUA_TSTRING && strcmp(lua_tostring(L, index), "same") == 0) return HISTORY_SAME;
  return optional_boolean(L, index, false) ? HISTORY_NEXT : HISTORY_KEEP;
}

/* delayed_scale(x, history, quantizer, record[, fields, count]) -> scale (1): backend.h, delayed_scale. record: whether x
 * enters the history as the next step, or "same" for the latest one. With it `fields` are set, `count` times a table, a
 * key and a value, as commit does; they have values before. */
static int lfp8_delayed_scale(lua_State *L) {
  const Tensor *x = check_tensor(L, 1);
  Tensor *history = check_tensor(L, 2);
  QuantizeOptions options = check_quantizer(L, 3);
  options.blocks = (Blocks){0};
  options.stochastic = false;
  HistoryRecord record = optional_record(L, 4);
  int count = lua_isnoneornil(L, 5) ? 0 : own_field_list(L, 5, 6);
  bool done = op_delayed_scale(new_tensor(L), x, history, &options, record);
  if (done) set_fields(L, 5, count);
  return finish(L, done, 1);
}

const luaL_Reg delayed_scale_functions[] = {
    {"delayed_scale", lfp8_delayed_scale},
    {NULL, NULL},
};
