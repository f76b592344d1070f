/* Points in a device's work. */
#include "core/context.h"
#include "ops/support/support.h"

void op_event_start(Event *event, Device device) {
  *event = (Event){.context = context_now, .device = device};
  context_hold(event->context);
}

bool op_event_record(Event *event) {
  return backend_of(event->device)->event_record(event->device.index, &event->mark);
}

bool op_event_elapsed(const Event *start, const Event *end, double *milliseconds) {
  if (!start->mark || !end->mark) return error_set("both events must have been recorded");
  if (!device_equal(start->device, end->device)) return error_set("the events are on different devices");
  return backend_of(start->device)->event_elapsed(start->device.index, start->mark, end->mark, milliseconds);
}

void op_event_release(Event *event) {
  if (!event->context) return;
  Context *before = context_enter(event->context);
  if (event->mark) backend_of(event->device)->event_release(event->device.index, event->mark);
  context_release(event->context);
  context_enter(before);
  *event = (Event){0};
}
