/* Events: the CPU has done its work when a call returns, so a point in it is a time. */
#include <stdlib.h>
#include <time.h>

#include "cpu/cpu.h"

bool cpu_event_record(int index, void **event) {
  (void)index;
  if (!*event) *event = host_allocate(sizeof(struct timespec));
  if (!*event) return false;
  clock_gettime(CLOCK_MONOTONIC, *event);
  return true;
}

bool cpu_event_elapsed(int index, void *start, void *end, double *milliseconds) {
  (void)index;
  const struct timespec *from = start, *to = end;
  *milliseconds = (double)(to->tv_sec - from->tv_sec) * 1e3 + (double)(to->tv_nsec - from->tv_nsec) * 1e-6;
  return true;
}

void cpu_event_release(int index, void *event) {
  (void)index;
  free(event);
}
