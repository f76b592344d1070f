/* Work spread over the OpenMP threads, which OpenBLAS and oneDNN use too. */
#ifndef FP8_CPU_PARALLEL_H
#define FP8_CPU_PARALLEL_H

#include "core/number.h"

struct Context;

/* Elements that a kernel handles at once: few enough for its buffers to stay in the first-level cache. */
enum { CHUNK = 512 };

/* The length of the chunk that begins at `start`, of elements that end before `end`. */
static inline int chunk_length(int64_t end, int64_t start) { return end - start < CHUNK ? (int)(end - start) : CHUNK; }

/* Whether the OpenMP runtime will be able to start its threads for a loop on so many: where it is not, it ends the
 * process. Tried once for each number; a thread that it ends and starts again later is its own affair. */
bool threads_can_start(int threads);

typedef void (*ParallelBody)(int64_t begin, int64_t end, const void *context);

/* Calls `body` on ranges that cover 0 … count - 1, each of which takes about `work` element operations; on this
 * thread alone where that is too little to be worth waking others. */
void parallel_for(int64_t count, int64_t work, ParallelBody body, const void *context);

/* The same for calls of libraries, which start threads of their own unless they are called in one of several: `body`
 * always is, if there are several, even where `count` is 1. */
void parallel_library_calls(int64_t count, ParallelBody body, const void *context);

/* The same for elements, in ranges that begin at a multiple of CHUNK; `work` counts the operations of one element. */
void parallel_chunks(int64_t count, int64_t work, ParallelBody body, const void *context);

/* The same, but the work ends early, and false is returned, where context_stops(stopper), whatever has been done then. */
bool parallel_until(const struct Context *stopper, int64_t count, int64_t work, ParallelBody body, const void *context);
bool parallel_chunks_until(const struct Context *stopper, int64_t count, int64_t work, ParallelBody body,
                           const void *context);

#endif
