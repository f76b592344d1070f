/* Which backends and devices there are. Backends belong to the process: once opened, they stay. */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "core/context.h"
#include "ops/support/support.h"

static const Backend *backends[DEVICE_KINDS_MOST];
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static bool check_backend(const Backend *backend, const char *path) {
  if (backend->version == BACKEND_VERSION && backend->size == sizeof *backend) return true;
  return error_set("%s is of another build of fp8: its table of operations has version %u and %u bytes, this one's "
                   "version %d and %zu bytes; build and install both together",
                   path, backend->version, backend->size, BACKEND_VERSION, sizeof *backend);
}

/* The library stays loaded even where there is no device: a driver that it has loaded can't be unloaded safely. */
static const Backend *load_backend(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  BackendOpen open_backend = NULL;
  void *symbol = library ? dlsym(library, BACKEND_OPEN) : NULL;
  if (!symbol) {
    error_set("%s can't be loaded, or is of another build of fp8: %s", path, dlerror());
    return NULL;
  }
  memcpy(&open_backend, &symbol, sizeof open_backend);
  const Backend *backend = open_backend();
  return backend && check_backend(backend, path) ? backend : NULL;
}

static bool add_backend(const char *name, const Backend *backend) {
  DeviceKind kind = device_kind_add(name);
  if (kind < 0) return error_set("no room for the devices '%s'", name);
  *backend->kind = kind;
  memory_register(kind, backend->allocator);
  __atomic_store_n(&backends[kind], backend, __ATOMIC_RELEASE);
  return true;
}

/* NULL for a kind that has not been opened. */
static const Backend *opened_backend(DeviceKind kind) {
  return kind < 0 ? NULL : __atomic_load_n(&backends[kind], __ATOMIC_ACQUIRE);
}

bool op_backend_open(const char *name, const char *path) {
  pthread_mutex_lock(&opening);
  bool done = opened_backend(device_kind_find(name, strlen(name))) != NULL;
  if (!done) {
    const Backend *backend = path ? load_backend(path) : cpu_backend_open();
    done = backend && add_backend(name, backend);
  }
  pthread_mutex_unlock(&opening);
  return done;
}

const Backend *backend_of(Device device) { return opened_backend(device.kind); }

const Backend *backend_for(const Tensor *tensor) { return backend_of(tensor_device(tensor)); }

int op_device_count(const char *name) {
  const Backend *backend = opened_backend(device_kind_find(name, strlen(name)));
  return backend ? backend->device_count() : 0;
}

bool op_check_device(Device device) {
  char name[DEVICE_NAME_MAX];
  const Backend *backend = backend_of(device);
  if (!backend) return error_set("no device %s: its backend is not loaded", device_name(device, name));
  int count = backend->device_count();
  if (device.index < count) return true;
  return error_set("no device %s: there %s %d", device_name(device, name), count == 1 ? "is" : "are", count);
}

bool op_synchronize(Device device) { return op_check_device(device) && backend_of(device)->synchronize(device.index); }

void op_set_deterministic(bool on) { context_now->deterministic = on; }

bool op_is_deterministic(void) { return context_now->deterministic; }
