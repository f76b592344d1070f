#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/context.h"

static const Allocator *allocators[DEVICE_KINDS_MOST];

void memory_register(DeviceKind kind, const Allocator *allocator) { allocators[kind] = allocator; }

static MemoryAccount *account_of(Device device) { return &context_now->memory[device.kind][device.index]; }

static double seconds_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void collect_garbage(void) {
  Context *context = context_now;
  if (!context->collect) return;
  double start = seconds_of(CLOCK_THREAD_CPUTIME_ID); /* that others have the processor for a while is no cost of it */
  context->collect(context->owner);
  context_enter(context); /* a finalizer may have used another one */
  context->collections.took = seconds_of(CLOCK_THREAD_CPUTIME_ID) - start;
  context->collections.ended = seconds_of(CLOCK_MONOTONIC);
}

static void format_bytes(size_t bytes, char text[24]) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
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

void host_trim(void) {
  if (allocators[DEVICE_CPU]) allocators[DEVICE_CPU]->trim(0);
}

static void *report_host_memory(size_t bytes) {
  if (context_now) error_memory(bytes);
  return NULL;
}

void *host_reallocate(void *data, size_t bytes) {
  if (bytes == 0) bytes = 1;
  void *result = realloc(data, bytes);
  if (result) return result;
  host_trim();
  result = realloc(data, bytes);
  return result ? result : report_host_memory(bytes);
}

void *host_allocate(size_t bytes) { return host_reallocate(NULL, bytes); }

void *host_allocate_zeroed(size_t count, size_t bytes) {
  if (count == 0) count = 1;
  void *result = calloc(count, bytes);
  if (result) return result;
  host_trim();
  result = calloc(count, bytes);
  return result ? result : report_host_memory(count * bytes);
}

/* Whether memory counts for more than time. */
static bool is_sparing(void) { return context_now->rehearsing || context_now->capture; }

/* Whether a collection as long as the last one would take no noticeable time: a hundredth of what has passed since, or
 * time in which the device has other things to do. */
static bool is_affordable(Device device, const Allocator *allocator) {
  const CollectionTimes *times = &context_now->collections;
  double passed = seconds_of(CLOCK_MONOTONIC) - times->ended;
  if (times->took <= (is_sparing() ? 32 : 0.01) * passed) return true;
  return allocator->is_behind && allocator->is_behind(device.index);
}

static size_t worthwhile_step(const MemoryAccount *account, const Allocator *allocator) {
  size_t step = account->survived / 8;
  if (is_sparing()) return step / 8;
  return step > allocator->collect_step ? step : allocator->collect_step;
}

void memory_make_room(Device device, size_t bytes) {
  MemoryAccount *account = account_of(device);
  size_t wanted = account->in_use + bytes;
  if (wanted <= account->threshold) return;
  const Allocator *allocator = allocators[device.kind];
  size_t step = worthwhile_step(account, allocator), most = 2 * account->survived;
  if (most < allocator->collect_above) most = allocator->collect_above;
  if (wanted > account->survived + step && (wanted > most || is_affordable(device, allocator))) {
    collect_garbage();
    account->survived = account->in_use;
    account->threshold = account->survived + worthwhile_step(account, allocator);
  } else {
    account->threshold = wanted + step / 8;
  }
}

void memory_expect_less(Device device) {
  account_of(device)->survived = 0;
  account_of(device)->threshold = 0;
}

void *memory_allocate(Device device, size_t bytes) {
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
  MemoryAccount *account = account_of(device);
  account->in_use += bytes;
  if (account->in_use > account->peak) account->peak = account->in_use;
  return data;
}

void memory_release(Device device, void *data, size_t bytes) {
  allocators[device.kind]->release(device.index, data, bytes);
  account_of(device)->in_use -= bytes;
}

MemoryStatistics memory_statistics(Device device) {
  const MemoryAccount *account = account_of(device);
  return (MemoryStatistics){account->in_use, account->peak, allocators[device.kind]->cached(device.index)};
}

void memory_reset_peak(Device device) {
  MemoryAccount *account = account_of(device);
  account->peak = account->in_use;
}
