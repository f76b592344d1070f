/* The CPU's allocator.
 *
 * Small blocks come from malloc. Large ones are mapped, and kept when they are freed: a fresh page costs a fault,
 * about as much time as writing it ten times, which glibc would pay anew for every large tensor. Mapped blocks also
 * stay out of the low addresses that LuaJIT needs on some systems. */
#include "cpu/memory/memory.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t large_bytes = (size_t)64 << 10;    /* from here on blocks are mapped: glibc would from 128 KiB on */
static const size_t huge_page_bytes = (size_t)2 << 20; /* of x86-64 and most others */
static const size_t checked_bytes = (size_t)64 << 20;  /* from here on the machine's free memory is looked at */
static const size_t margin_bytes = (size_t)64 << 20;   /* that much of it is left alone */
static const size_t cache_most = (size_t)1024 << 20;   /* kept free, but not over an eighth of the free memory */

enum { CACHE_BLOCKS = 256 };

typedef struct FreeMemory {
  void *data;
  size_t bytes;
} FreeMemory;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FreeMemory cache[CACHE_BLOCKS]; /* free blocks, oldest first */
static int cached_blocks;
static size_t cached_bytes, cache_limit;
static size_t mapped_bytes; /* of blocks in use */

/* Rounded up to one of eight sizes in each power of two, so that freed blocks fit later requests; 0 on overflow. */
static size_t block_bytes(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return 0;
  size_t power = large_bytes;
  while (power <= bytes / 2) power *= 2;
  size_t step = power / 8;
  return (bytes + step - 1) / step * step;
}

static void remove_cached(int position) {
  cached_bytes -= cache[position].bytes;
  cached_blocks--;
  memmove(cache + position, cache + position + 1, (size_t)(cached_blocks - position) * sizeof cache[0]);
}

/* The block freed last, which is the likeliest to be in the processor's caches. */
static void *take_cached(size_t bytes) {
  for (int i = cached_blocks - 1; i >= 0; i--) {
    if (cache[i].bytes != bytes) continue;
    void *data = cache[i].data;
    remove_cached(i);
    return data;
  }
  return NULL;
}

/* Bytes of mapped blocks that were never written and so do not show in the free memory yet. */
static size_t untouched_bytes(void) {
  unsigned long long total, resident, shared;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  int found = fscanf(file, "%llu %llu %llu", &total, &resident, &shared);
  fclose(file);
  if (found != 3) return 0;
  size_t touched = (size_t)(resident - shared) * (size_t)sysconf(_SC_PAGESIZE);
  size_t mapped = mapped_bytes + cached_bytes;
  return mapped > touched ? mapped - touched : 0;
}

/* Linux grants what it does not have and kills when it is used. */
static bool is_available(size_t bytes) {
  size_t available = memory_available();
  if (available == SIZE_MAX) return true;
  size_t reserved = untouched_bytes() + margin_bytes;
  return available > reserved && bytes <= available - reserved;
}

static void *map_block(size_t bytes) {
  if (bytes >= checked_bytes && !is_available(bytes)) return NULL;
  void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  if (bytes >= 2 * huge_page_bytes) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  return data;
}

static void *cpu_allocate(int index, size_t bytes) {
  (void)index;
  if (bytes < large_bytes) return aligned_alloc(64, (bytes + 63) / 64 * 64);
  size_t size = block_bytes(bytes);
  if (size == 0) return NULL;
  pthread_mutex_lock(&lock);
  void *data = take_cached(size);
  if (!data) data = map_block(size);
  if (data) mapped_bytes += size;
  pthread_mutex_unlock(&lock);
  return data;
}

static void cpu_release(int index, void *data, size_t bytes) {
  (void)index;
  if (bytes < large_bytes) {
    free(data);
    return;
  }
  size_t size = block_bytes(bytes);
  pthread_mutex_lock(&lock);
  mapped_bytes -= size;
  if (cache_limit == 0) {
    size_t share = memory_available() / 8;
    cache_limit = share < cache_most ? share : cache_most;
  }
  if (size > cache_limit) {
    munmap(data, size);
  } else {
    while (cached_blocks == CACHE_BLOCKS || cached_bytes + size > cache_limit) {
      munmap(cache[0].data, cache[0].bytes);
      remove_cached(0);
    }
    cache[cached_blocks++] = (FreeMemory){data, size};
    cached_bytes += size;
  }
  pthread_mutex_unlock(&lock);
}

static void cpu_trim(int index) {
  (void)index;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < cached_blocks; i++) munmap(cache[i].data, cache[i].bytes);
  cached_blocks = 0;
  cached_bytes = 0;
  pthread_mutex_unlock(&lock);
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

static size_t cpu_cached(int index) {
  (void)index;
  pthread_mutex_lock(&lock);
  size_t bytes = cached_bytes;
  pthread_mutex_unlock(&lock);
  return bytes;
}

const Allocator cpu_allocator = {
    .allocate = cpu_allocate,
    .release = cpu_release,
    .trim = cpu_trim,
    .cached = cpu_cached,
    .collect_above = (size_t)128 << 20,
    .collect_step = (size_t)32 << 20,
};

void *scratch_allocate(size_t bytes) {
  if (bytes == 0) bytes = 1;
  void *data = cpu_allocate(0, bytes);
  if (!data) {
    cpu_trim(0);
    data = cpu_allocate(0, bytes);
  }
  if (!data) error_set("out of memory on cpu: %zu bytes of scratch space asked for", bytes);
  return data;
}

void scratch_release(void *data, size_t bytes) {
  if (data) cpu_release(0, data, bytes > 0 ? bytes : 1);
}
