/* Memory of tensors on every device: counted, and with the garbage collector of the scripting language driven from the
 * counts, since it cannot see these bytes itself. */
#ifndef FP8_CORE_MEMORY_H
#define FP8_CORE_MEMORY_H

#include <stddef.h>

#include "core/device.h"
#include "core/error.h"

/* How one kind of device allocates. */
typedef struct Allocator {
  /* `bytes` (> 0) of memory aligned to 64 bytes or more, uninitialised; NULL if there is not enough. */
  void *(*allocate)(int index, size_t bytes);
  void (*release)(int index, void *data, size_t bytes);
  /* Gives memory that is cached but not in use back to the driver. */
  void (*trim)(int index);
  /* Bytes held from the driver and not in use. */
  size_t (*cached)(int index);
} Allocator;

typedef struct MemoryStatistics {
  size_t in_use; /* bytes that live tensors hold */
  size_t peak;   /* the most that in_use has been since memory_reset_peak */
  size_t cached; /* bytes held from the driver and not in use */
} MemoryStatistics;

FP8_API void memory_register(DeviceKind kind, const Allocator *allocator);

/* Sets what frees unreachable tensors; called when enough has been allocated since the last collection, and before an
 * allocation is given up. */
void memory_set_collector(void (*collect)(void *context), void *context);

/* Collects garbage if `bytes` more would make it due. */
void memory_make_room(Device device, size_t bytes);

/* NULL with an error that says how much was asked for, is in use and is cached. */
void *memory_allocate(Device device, size_t bytes);
void memory_release(Device device, void *data, size_t bytes);

MemoryStatistics memory_statistics(Device device);
void memory_reset_peak(Device device);

#endif
