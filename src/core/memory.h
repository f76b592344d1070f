/* Memory of tensors on every device: counted for each context, and with the garbage collector of the scripting language
 * driven from the counts, since it cannot see these bytes itself. */
#ifndef FP8_CORE_MEMORY_H
#define FP8_CORE_MEMORY_H

#include <stddef.h>

#include "core/device.h"
#include "core/error.h"

/* How one kind of device allocates, for the current context. */
typedef struct Allocator {
  /* `bytes` (> 0) of memory aligned to 64 bytes or more, uninitialised; NULL if there is not enough. */
  void *(*allocate)(int index, size_t bytes);
  void (*release)(int index, void *data, size_t bytes);
  /* Gives memory that is cached but not in use back to the driver. */
  void (*trim)(int index);
  /* Bytes held from the driver and not in use. */
  size_t (*cached)(int index);
  /* Below this much in use a device asks for no collection that takes noticeable time: Lua's own pace is enough. A
   * collection takes a good part of a millisecond, in which a GPU makes gigabytes; an allocation that fails asks for one
   * anyway. */
  size_t collect_above;
  /* So much more than survived a collection is not worth the next one. */
  size_t collect_step;
  /* Whether the device has more to do than a collection takes, so that it loses no time by one; NULL for never. */
  bool (*is_behind)(int index);
} Allocator;

/* What a context has of one device. */
typedef struct MemoryAccount {
  size_t in_use, peak;
  size_t survived;  /* in_use after the last collection */
  size_t threshold; /* in_use above which the next allocation asks whether a collection is due */
} MemoryAccount;

/* What a context's collections cost. */
typedef struct CollectionTimes {
  double ended; /* the last one, by a clock that only goes forward, in seconds */
  double took;  /* seconds of the processor */
} CollectionTimes;

typedef struct MemoryStatistics {
  size_t in_use; /* bytes that live tensors hold */
  size_t peak;   /* the most that in_use has been since memory_reset_peak */
  size_t cached; /* bytes held from the driver and not in use */
} MemoryStatistics;

void memory_register(DeviceKind kind, const Allocator *allocator);

/* Collects garbage if `bytes` more would make it due: if as much has been allocated as survived the last collection, which
 * keeps the cost proportional; or, after an eighth of that, where it takes no noticeable time. While a graph is captured or
 * rehearsed, whose memory is taken once and for as long as it lives, time counts for less and a 64th is enough. */
void memory_make_room(Device device, size_t bytes);

/* Of the current context. NULL with an error that says how much was asked for, is in use and is cached. */
void *memory_allocate(Device device, size_t bytes);
void memory_release(Device device, void *data, size_t bytes);

/* malloc, calloc and realloc of the library's own: where they fail, cached memory is given back before that is an error.
 * NULL with an error; free takes the result. `bytes` and `count` may be 0. */
FP8_API void *host_allocate(size_t bytes);
FP8_API void *host_allocate_zeroed(size_t count, size_t bytes);
FP8_API void *host_reallocate(void *data, size_t bytes);
/* Gives the memory that the CPU's cache holds back, for whoever needs it. */
void host_trim(void);

/* The next allocation asks whether a collection is due, whatever was in use before. */
void memory_expect_less(Device device);

MemoryStatistics memory_statistics(Device device);
void memory_reset_peak(Device device);

#endif
