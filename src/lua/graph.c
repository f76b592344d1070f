/* Events and graphs as userdata. lua/fp8/timing.lua gives events their methods; graph.lua wraps graphs. */
#include <math.h>
#include <string.h>

#include "lua/binding.h"

static const char event_name[] = "fp8.Event", graph_name[] = "fp8.Graph";

/* Pushes a userdata of zeros with the metatable `name`, whose finalizer is `collect`. */
static void *new_object(lua_State *L, size_t bytes, const char *name, lua_CFunction collect) {
  void *object = lua_newuserdata(L, bytes);
  memset(object, 0, bytes);
  if (luaL_newmetatable(L, name)) {
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
  }
  lua_setmetatable(L, -2);
  return object;
}

/* Argument `index`, or NULL if it is no userdata of this metatable. */
static void *to_object(lua_State *L, int index, const char *name) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return NULL;
  luaL_getmetatable(L, name);
  bool is_one = lua_rawequal(L, -1, -2);
  lua_pop(L, 2);
  return is_one ? lua_touserdata(L, index) : NULL;
}

static Event *check_event(lua_State *L, int index) {
  Event *event = to_object(L, index, event_name);
  if (!event) argument_error(L, index, "event expected, got %s", luaL_typename(L, index));
  return event;
}

static Graph *check_graph(lua_State *L, int index) {
  Graph *graph = to_object(L, index, graph_name);
  if (!graph) argument_error(L, index, "graph expected, got %s", luaL_typename(L, index));
  return graph;
}

static int collect_event(lua_State *L) {
  Event *event = to_object(L, 1, event_name);
  if (event) op_event_release(event);
  return 0;
}

static int collect_graph(lua_State *L) {
  Graph *graph = to_object(L, 1, graph_name);
  if (graph) op_graph_release(graph);
  return 0;
}

/* device_name(device) -> its full name: "cuda:0" for "cuda" */
static int lfp8_device_name(lua_State *L) {
  char name[DEVICE_NAME_MAX];
  lua_pushstring(L, device_name(check_device(L, 1), name));
  return 1;
}

/* event(device) -> an event that has not been recorded */
static int lfp8_event(lua_State *L) {
  Device device = check_device(L, 1);
  Event *event = new_object(L, sizeof *event, event_name, collect_event);
  event->device = device;
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

/* graph_prepare(device, boolean): whether the work from now on is what will be captured next */
static int lfp8_graph_prepare(lua_State *L) {
  Device device = check_device(L, 1);
  return finish(L, op_graph_prepare(device, optional_boolean(L, 2, true)), 0);
}

/* graph_begin(device) -> graph, which takes down the device's work from now on instead of doing it */
static int lfp8_graph_begin(lua_State *L) {
  Device device = check_device(L, 1);
  Graph *graph = new_object(L, sizeof *graph, graph_name, collect_graph);
  return finish(L, op_graph_begin(graph, device), 1);
}

/* graph_end(graph): it can be replayed now */
static int lfp8_graph_end(lua_State *L) {
  Graph *graph = check_graph(L, 1);
  if (!graph->capture || graph->capture != capture_open) argument_error(L, 1, "this graph is not being captured");
  return finish(L, op_graph_end(graph), 0);
}

/* graph_release(graph): ends its capture, if that is under way, and gives up the graph */
static int lfp8_graph_release(lua_State *L) {
  op_graph_release(check_graph(L, 1));
  return 0;
}

/* graph_replay(graph): enqueues its work */
static int lfp8_graph_replay(lua_State *L) { return finish(L, op_graph_replay(check_graph(L, 1)), 0); }

/* contents(tensor) -> a number that tells whether what was derived from the tensor's elements still holds: it changes
 * with every change in place, and whenever the capture of a graph begins or ends. NaN, which equals nothing, after
 * expose(). */
static int lfp8_contents(lua_State *L) {
  const Storage *storage = check_tensor(L, 1)->storage;
  double changes = (double)storage->version + (double)capture_epoch() * 0x1p32;
  lua_pushnumber(L, storage->exposed ? NAN : changes);
  return 1;
}

/* expose(tensor): a pointer to its elements is handed to a script, so that contents() holds for nothing any more */
static int lfp8_expose(lua_State *L) {
  check_tensor(L, 1)->storage->exposed = true;
  return 0;
}

const luaL_Reg graph_functions[] = {
    {"device_name", lfp8_device_name},
    {"event", lfp8_event},
    {"event_record", lfp8_event_record},
    {"event_elapsed", lfp8_event_elapsed},
    {"graph_prepare", lfp8_graph_prepare},
    {"graph_begin", lfp8_graph_begin},
    {"graph_end", lfp8_graph_end},
    {"graph_release", lfp8_graph_release},
    {"graph_replay", lfp8_graph_replay},
    {"contents", lfp8_contents},
    {"expose", lfp8_expose},
    {NULL, NULL},
};
