#include "cpu/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/context.h"
#include "core/process.h"

/* Waking a thread and waiting for it costs about as much as this many simple element operations. */
static const double work_of_a_thread = 16384;

/* Between so many, some milliseconds, whether to go on is asked. */
enum { WORK_OF_A_PIECE = 1 << 22 };

static void *wait_for_all(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return NULL;
}

bool threads_can_start(int threads) {
  static atomic_int tried = 1;
  if (threads <= atomic_load_explicit(&tried, memory_order_relaxed)) return true;
  pthread_t *thread = malloc((size_t)threads * sizeof *thread);
  if (!thread) return false;
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  int started = 1;
  pthread_mutex_lock(&gate);
  while (started < threads && pthread_create(&thread[started], NULL, wait_for_all, &gate) == 0) started++;
  pthread_mutex_unlock(&gate);
  for (int i = 1; i < started; i++) pthread_join(thread[i], NULL);
  free(thread);
  if (started < threads) return false;
  atomic_store(&tried, threads);
  return true;
}

static int thread_count(int64_t count, int64_t work) {
  double useful = (double)count * (double)work / work_of_a_thread;
  if (useful < 2 || omp_in_parallel()) return 1;
  int threads = omp_get_max_threads();
  if (threads > useful) threads = (int)useful;
  return threads > count ? (int)count : threads;
}

static void run_team(int threads, int64_t count, ParallelBody body, const void *context) {
  if (!threads_can_start(threads)) {
    body(0, count, context);
    return;
  }
  process_has_threads();
  /* One range a team member, whatever the size of the team that the runtime grants. */
#pragma omp parallel num_threads(threads)
  {
    int64_t team = omp_get_num_threads(), member = omp_get_thread_num();
    int64_t share = count / team, rest = count % team;
    int64_t begin = member * share + (member < rest ? member : rest);
    int64_t end = begin + share + (member < rest);
    if (begin < end) body(begin, end, context);
  }
}

void parallel_for(int64_t count, int64_t work, ParallelBody body, const void *context) {
  if (count <= 0) return;
  int threads = thread_count(count, work);
  if (threads > 1) {
    run_team(threads, count, body, context);
  } else {
    body(0, count, context);
  }
}

void parallel_library_calls(int64_t count, ParallelBody body, const void *context) {
  int threads = omp_get_max_threads(), useful = count > 2 ? (int)count : 2;
  run_team(threads < useful ? threads : useful, count, body, context);
}

typedef struct ChunkRanges {
  int64_t count;
  ParallelBody body;
  const void *context;
} ChunkRanges;

static void run_range(int64_t begin, int64_t end, const void *context) {
  const ChunkRanges *ranges = context;
  int64_t last = end * CHUNK;
  ranges->body(begin * CHUNK, last < ranges->count ? last : ranges->count, ranges->context);
}

typedef struct Pieces {
  const Context *stopper;
  int64_t length;
  ParallelBody body;
  const void *context;
} Pieces;

static void run_pieces(int64_t begin, int64_t end, const void *context) {
  const Pieces *pieces = context;
  for (int64_t start = begin; start < end && !context_stops(pieces->stopper); start += pieces->length) {
    int64_t rest = end - start;
    pieces->body(start, start + (rest < pieces->length ? rest : pieces->length), pieces->context);
  }
}

bool parallel_until(const Context *stopper, int64_t count, int64_t work, ParallelBody body, const void *context) {
  int64_t length = work < WORK_OF_A_PIECE ? WORK_OF_A_PIECE / (work > 0 ? work : 1) : 1;
  parallel_for(count, work, run_pieces, &(Pieces){stopper, length, body, context});
  return !context_stops(stopper);
}

void parallel_chunks(int64_t count, int64_t work, ParallelBody body, const void *context) {
  ChunkRanges ranges = {count, body, context};
  parallel_for(divide_up(count, CHUNK), work * CHUNK, run_range, &ranges);
}

bool parallel_chunks_until(const Context *stopper, int64_t count, int64_t work, ParallelBody body,
                           const void *context) {
  ChunkRanges ranges = {count, body, context};
  return parallel_until(stopper, divide_up(count, CHUNK), work * CHUNK, run_range, &ranges);
}
