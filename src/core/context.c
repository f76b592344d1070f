#include "core/context.h"

#include <stdlib.h>

#include "core/formats/map.h"

_Thread_local __attribute__((tls_model("initial-exec"), visibility("hidden"))) Context *context_now;

Context *context_create(void) {
  Context *context = host_allocate_zeroed(1, sizeof *context);
  if (context) context->references = 1;
  return context;
}

void context_close(Context *context) {
  context->collect = NULL;
  context_release(context);
}

void context_release(Context *context) {
  if (--context->references > 0) return;
  Context *before = context_enter(context);
  map_cache_release(context->maps);
  for (int kind = 0; kind < DEVICE_KINDS_MOST; kind++) {
    BackendState *state = &context->backend[kind];
    if (state->data) state->release(state->data);
  }
  context_enter(before == context ? NULL : before);
  free(context);
}

Context *context_current(void) { return context_now; }
