#include "core/memory.h"

#include <stdatomic.h>
#include <stdio.h>

/* Below this much in use a device never asks for a collection: Lua's own pace is enough. A collection takes a good
 * part of a millisecond, in which a GPU makes gigabytes; an allocation that fails asks for one anyway. */
static const size_t minimum_thresholds[DEVICE_KIND_COUNT] = {
    [DEVICE_CPU] = (size_t)128 << 20,
    [DEVICE_CUDA] = (size_t)3 << 30,
};

typedef struct Account {
  atomic_size_t in_use, peak;
  size_t threshold; /* in_use above which the next allocation collects first; 0 before the first allocation */
} Account;

static Account accounts[DEVICE_KIND_COUNT][DEVICE_MAX];
static const Allocator *allocators[DEVICE_KIND_COUNT];
static void (*collector)(void *context);
static void *collector_context;

void memory_register(DeviceKind kind, const Allocator *allocator) { allocators[kind] = allocator; }

void memory_set_collector(void (*collect)(void *context), void *context) {
  collector = collect;
  collector_context = context;
}

static void collect_garbage(void) {
  if (collector) collector(collector_context);
}

static void format_bytes(size_t bytes, char text[24]) {
  static const char *units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    unit++;
  }
  snprintf(text, 24, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void report_out_of_memory(Device device, size_t bytes) {
  MemoryStatistics statistics = memory_statistics(device);
  char name[DEVICE_NAME_MAX], asked[24], in_use[24], cached[24];
  format_bytes(bytes, asked);
  format_bytes(statistics.in_use, in_use);
  format_bytes(statistics.cached, cached);
  error_set("out of memory on %s: %s asked for, %s in use, %s cached", device_name(device, name), asked, in_use,
            cached);
}

void memory_make_room(Device device, size_t bytes) {
  Account *account = &accounts[device.kind][device.index];
  size_t minimum_threshold = minimum_thresholds[device.kind];
  if (account->threshold < minimum_threshold) account->threshold = minimum_threshold;
  if (account->in_use + bytes <= account->threshold) return;
  collect_garbage();
  /* Collecting again only after as much has been allocated as survived keeps the cost proportional. */
  size_t doubled = 2 * account->in_use;
  account->threshold = doubled > minimum_threshold ? doubled : minimum_threshold;
}

void *memory_allocate(Device device, size_t bytes) {
  Account *account = &accounts[device.kind][device.index];
  const Allocator *allocator = allocators[device.kind];
  memory_make_room(device, bytes);
  void *data = allocator->allocate(device.index, bytes);
  if (!data) {
    collect_garbage();
    allocator->trim(device.index);
    data = allocator->allocate(device.index, bytes);
  }
  if (!data) {
    report_out_of_memory(device, bytes);
    return NULL;
  }
  size_t in_use = atomic_fetch_add(&account->in_use, bytes) + bytes;
  if (in_use > account->peak) account->peak = in_use;
  return data;
}

void memory_release(Device device, void *data, size_t bytes) {
  allocators[device.kind]->release(device.index, data, bytes);
  accounts[device.kind][device.index].in_use -= bytes;
}

MemoryStatistics memory_statistics(Device device) {
  Account *account = &accounts[device.kind][device.index];
  const Allocator *allocator = allocators[device.kind];
  return (MemoryStatistics){account->in_use, account->peak, allocator ? allocator->cached(device.index) : 0};
}

void memory_reset_peak(Device device) {
  Account *account = &accounts[device.kind][device.index];
  account->peak = account->in_use;
}
