/* Which backends and devices there are. */
#include <dlfcn.h>
#include <string.h>

#include "ops/internal.h"

static const Backend *cuda_backend;

static const Backend *cpu_backend(void) {
  static const Backend *backend;
  if (!backend) backend = cpu_backend_open();
  return backend;
}

const Backend *backend_of(Device device) { return device.kind == DEVICE_CPU ? cpu_backend() : cuda_backend; }

const Backend *backend_for(const Tensor *tensor) { return backend_of(tensor_device(tensor)); }

bool op_cuda_open(const char *path) {
  if (cuda_backend) return true;
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return error_set("no CUDA: %s", dlerror());
  BackendOpen open_backend = NULL;
  void *symbol = dlsym(library, CUDA_BACKEND_OPEN);
  memcpy(&open_backend, &symbol, sizeof open_backend);
  if (!open_backend) return error_set("no CUDA: %s has no %s", path, CUDA_BACKEND_OPEN);
  /* The library stays loaded even if there is no GPU: the driver it has loaded can't be unloaded safely. */
  cuda_backend = open_backend();
  return cuda_backend != NULL;
}

int op_cuda_device_count(void) { return cuda_backend ? cuda_backend->device_count() : 0; }

bool op_check_device(Device device) {
  if (device.kind == DEVICE_CPU) return cpu_backend() != NULL;
  if (!cuda_backend) return error_set("no CUDA device: the CUDA backend is not loaded");
  int count = cuda_backend->device_count();
  if (device.index < count) return true;
  char name[DEVICE_NAME_MAX];
  return error_set("no device %s: there %s %d", device_name(device, name), count == 1 ? "is" : "are", count);
}

bool op_synchronize(Device device) { return op_check_device(device) && backend_of(device)->synchronize(device.index); }

bool op_event_record(Event *event) {
  return backend_of(event->device)->event_record(event->device.index, &event->mark);
}

bool op_event_elapsed(const Event *start, const Event *end, double *milliseconds) {
  if (!start->mark || !end->mark) return error_set("both events must have been recorded");
  if (!device_equal(start->device, end->device)) return error_set("the events are on different devices");
  return backend_of(start->device)->event_elapsed(start->device.index, start->mark, end->mark, milliseconds);
}

void op_event_release(Event *event) {
  if (event->mark) backend_of(event->device)->event_release(event->device.index, event->mark);
  event->mark = NULL;
}
