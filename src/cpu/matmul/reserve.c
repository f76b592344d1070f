#include "cpu/matmul/reserve.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/memory.h"
#include "cpu/parallel.h"

/* Of OpenBLAS: its buffers are taken and given back, and stay mapped. */
void *blas_memory_alloc(int kind);
void blas_memory_free(void *buffer);

static const size_t buffer_bytes = (size_t)128 << 20; /* BUFFER_SIZE, of x86-64 and arm64 */
static const size_t work_bytes = (size_t)1 << 20;     /* more than the threads' work takes */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int buffers_had; /* at once */

static bool can_map(size_t bytes) {
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return false;
  munmap(data, bytes);
  return true;
}

static bool can_map_after_trimming(size_t bytes) {
  if (can_map(bytes)) return true;
  host_trim();
  return can_map(bytes);
}

/* Has `count` buffers mapped. */
static bool reserve_buffers(int count) {
  if (count <= buffers_had) return true;
  void **buffer = host_allocate((size_t)count * sizeof *buffer);
  if (!buffer) return false;
  int taken = 0;
  while (taken < count && (taken < buffers_had || can_map_after_trimming(buffer_bytes))) {
    buffer[taken++] = blas_memory_alloc(0);
  }
  for (int i = 0; i < taken; i++) blas_memory_free(buffer[i]);
  free(buffer);
  if (taken > buffers_had) buffers_had = taken;
  return taken == count || error_memory(buffer_bytes);
}

static bool has_work_memory(void) {
  void *work = host_allocate(work_bytes);
  free(work);
  return work != NULL;
}

int reserve_for_product(int threads) {
  pthread_mutex_lock(&lock);
  /* A buffer for each thread, and one for the caller. */
  bool parallel = threads > 1 && threads_can_start(threads) && reserve_buffers(threads + 1) && has_work_memory();
  int result = parallel ? threads : reserve_buffers(1) ? 1 : 0;
  pthread_mutex_unlock(&lock);
  return result;
}
