/* Graphs: a device's work captured once and done again as a whole. */
#include "core/context.h"
#include "ops/support/support.h"

bool op_create_lasting(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  Context *context = context_now;
  Capture *open = context->capture;
  context->capture = NULL;
  bool created = tensor_create(out, dtype, device, rank, size);
  context->capture = open;
  return created;
}

static bool check_graphs(Device device) {
  char name[DEVICE_NAME_MAX];
  if (!op_check_device(device)) return false;
  return backend_of(device)->capture_begin || error_set("there are no graphs on %s", device_name(device, name));
}

bool op_graph_prepare(Device device, bool preparing) {
  if (capture_open()) return error_set("a graph is being captured already");
  if (!check_graphs(device) || !backend_of(device)->capture_prepare(device.index, preparing)) return false;
  context_now->rehearsing = preparing;
  memory_expect_less(device);
  return true;
}

bool op_graph_begin(Graph *graph, Device device) {
  if (!check_graphs(device)) return false;
  graph->device = device;
  graph->capture = capture_begin(device);
  if (!graph->capture) return false;
  graph->context = context_now;
  graph->context->rehearsing = false;
  memory_expect_less(device);
  context_hold(graph->context);
  if (backend_of(device)->capture_begin(device.index)) return true;
  capture_end(graph->capture);
  capture_release(graph->capture);
  context_release(graph->context);
  *graph = (Graph){0};
  return false;
}

bool op_graph_end(Graph *graph) {
  bool whole = capture_end(graph->capture);
  void *work = NULL;
  bool ended = backend_of(graph->device)->capture_end(graph->device.index, whole ? &work : NULL);
  graph->work = work;
  if (whole && ended) return true;
  op_graph_release(graph);
  return false;
}

void op_graph_release(Graph *graph) {
  if (!graph->capture) return;
  const Backend *backend = backend_of(graph->device);
  Context *before = context_enter(graph->context);
  if (capture_open() == graph->capture) {
    capture_end(graph->capture);
    backend->capture_end(graph->device.index, NULL);
  }
  if (graph->work) backend->graph_release(graph->device.index, graph->work);
  capture_release(graph->capture);
  context_release(graph->context);
  context_enter(before);
  *graph = (Graph){0};
}

bool op_graph_replay(Graph *graph) {
  if (!graph->work) return error_set("this graph has not been captured");
  if (capture_open()) return error_set("a graph can't be replayed while another one is captured");
  CaptureRandom *random = capture_random(graph->capture);
  if (!op_store_live_random(random)) return false;
  if (!backend_of(graph->device)->graph_launch(graph->device.index, graph->work)) return false;
  op_draw_live_random(random);
  capture_replayed(graph->capture);
  return true;
}
