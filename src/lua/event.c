/* Points in a device's work. lua/fp8/event.lua gives events their methods. */
#include "lua/binding/binding.h"

static const char event_name[] = "fp8.Event";

static Event *check_event(lua_State *L, int index) {
  Event *event = to_object(L, index, event_name);
  if (!event) argument_error(L, index, "event expected, got %s", luaL_typename(L, index));
  return event;
}

static int collect_event(lua_State *L) {
  Event *event = to_object(L, 1, event_name);
  if (event) op_event_release(event);
  return 0;
}

/* event(device) -> an event that has not been recorded */
static int lfp8_event(lua_State *L) {
  Device device = check_device(L, 1);
  Event *event = new_object(L, sizeof *event, event_name, collect_event);
  op_event_start(event, device);
  return 1;
}

/* event_record(event) -> event: marks the point that the device's work has reached */
static int lfp8_event_record(lua_State *L) {
  Event *event = check_event(L, 1);
  lua_settop(L, 1);
  return finish(L, op_event_record(event), 1);
}

/* event_elapsed(start, end) -> milliseconds; waits for both */
static int lfp8_event_elapsed(lua_State *L) {
  const Event *start = check_event(L, 1), *end = check_event(L, 2);
  double milliseconds = 0;
  bool ok = op_event_elapsed(start, end, &milliseconds);
  lua_pushnumber(L, milliseconds);
  return finish(L, ok, 1);
}

const luaL_Reg event_functions[] = {
    {"event", lfp8_event},
    {"event_record", lfp8_event_record},
    {"event_elapsed", lfp8_event_elapsed},
    {NULL, NULL},
};
