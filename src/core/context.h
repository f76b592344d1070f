/* What belongs to one user of the library, which is one Lua state: its random numbers, errors, graphs, compiled maps,
 * counted memory, and what each backend keeps for it. Nothing that a computation depends on belongs to the process: two
 * contexts know nothing of each other, whether one thread uses them in turn or several threads at once.
 *
 * A thread that calls into the library says for which context (context_enter); one context serves one thread at a time.
 * A context lives as long as its owner or any storage that was made for it. */
#ifndef FP8_CORE_CONTEXT_H
#define FP8_CORE_CONTEXT_H

#include "core/device.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/random.h"

enum { ERROR_TEXT_MAX = 512 };

struct Capture;
struct MapCache;

/* What a backend keeps for one context: its streams, plans and the like. */
typedef struct BackendState {
  void *data;
  void (*release)(void *data);
} BackendState;

typedef struct Context {
  int references; /* the owner, and one for each storage */
  RandomSource generator;
  char error[ERROR_TEXT_MAX];
  struct Capture *capture; /* the open one, or NULL */
  uint64_t capture_epoch;
  struct MapCache *maps;
  int calls;          /* under way: while one interrupts another, nothing that the other may use is given up */
  uint64_t call;      /* the number of the one that runs: it can give up what was made in it */
  bool interruptible; /* somebody may want the running call to end, */
  bool interrupted;   /* and does: set by a signal's handler */
  bool deterministic; /* the same bits whatever the number of the CPU's threads, and in every run on a GPU */
  bool rehearsing;    /* the work is what will be captured next */
  MemoryAccount memory[DEVICE_KINDS_MOST][DEVICE_MAX];
  CollectionTimes collections;
  BackendState backend[DEVICE_KINDS_MOST];
  /* Frees tensors that nothing refers to any more; NULL once the owner is gone. */
  void (*collect)(void *owner);
  void *owner;
} Context;

/* Its owner, which the caller fills in, holds a reference. NULL without memory. */
Context *context_create(void);
/* The owner is gone: nothing is collected any more. Drops its reference. */
void context_close(Context *context);

static inline void context_hold(Context *context) { context->references++; }
void context_release(Context *context);

/* Whether work whose end early harms nothing should end: somebody wants the call to end in which it is done. `context` is
 * NULL for other work (tensor_stopper). */
static inline bool context_stops(const Context *context) {
  return context && __atomic_load_n(&context->interrupted, __ATOMIC_RELAXED);
}

/* The one that the calling thread works for: context_current, for this library. Without a look-up at each access:
 * variables of threads in loaded libraries have a reserve of their own. */
extern _Thread_local __attribute__((tls_model("initial-exec"), visibility("hidden"))) Context *context_now;

FP8_API Context *context_current(void);

/* Makes the calling thread work for a context; returns the one before, to which it has to return after a call that
 * interrupts another one. */
static inline Context *context_enter(Context *context) {
  Context *before = context_now;
  context_now = context;
  return before;
}

#endif
