/* Graphs as userdata; lua/fp8/graph.lua wraps them. */
#include "lua/binding/binding.h"

static const char graph_name[] = "fp8.Graph";

static Graph *check_graph(lua_State *L, int index) {
  Graph *graph = to_object(L, index, graph_name);
  if (!graph) argument_error(L, index, "graph expected, got %s", luaL_typename(L, index));
  return graph;
}

static int collect_graph(lua_State *L) {
  Graph *graph = to_object(L, 1, graph_name);
  if (graph) op_graph_release(graph);
  return 0;
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
  if (!graph->capture || graph->capture != capture_open()) argument_error(L, 1, "this graph is not being captured");
  return finish(L, op_graph_end(graph), 0);
}

/* graph_release(graph): ends its capture, if that is under way, and gives up the graph */
static int lfp8_graph_release(lua_State *L) {
  op_graph_release(check_graph(L, 1));
  return 0;
}

/* graph_replay(graph, fields, count): enqueues its work and, with it, sets `fields`, `count` times a table, a key and a
 * value, as commit does; they have values before */
static int lfp8_graph_replay(lua_State *L) {
  int count = own_field_list(L, 2, 3);
  bool done = op_graph_replay(check_graph(L, 1));
  if (done) set_fields(L, 2, count);
  return finish(L, done, 0);
}

const luaL_Reg graph_functions[] = {
    {"graph_prepare", lfp8_graph_prepare}, {"graph_begin", lfp8_graph_begin},   {"graph_end", lfp8_graph_end},
    {"graph_release", lfp8_graph_release}, {"graph_replay", lfp8_graph_replay}, {NULL, NULL},
};
