#include "core/process.h"

#include <pthread.h>
#include <stdatomic.h>

static atomic_bool has_threads, lost_threads;
static bool watching;

void process_has_threads(void) { atomic_store_explicit(&has_threads, true, memory_order_relaxed); }

bool process_lost_threads(void) { return atomic_load_explicit(&lost_threads, memory_order_relaxed); }

static void enter_child(void) {
  if (atomic_load(&has_threads)) atomic_store(&lost_threads, true);
}

static void watch(void) { watching = pthread_atfork(NULL, NULL, enter_child) == 0; }

bool process_watch_forks(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch);
  return watching;
}
