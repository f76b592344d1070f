/* The device copies of maps. */
#include <stdlib.h>

#include "cuda/cuda.h"

/* A copy that left the cache of maps while there was a graph, which may read it. */
typedef struct Retired {
  struct Retired *next;
  void *copy;
} Retired;

static Retired *retired[DEVICE_MAX];

static void release(int index, void *copy) { cuda_allocator.release(index, copy, sizeof(MapTable)); }

void cuda_release_map_copy(int index, void *copy) {
  const CudaDevice *device = cuda_used_device(index);
  if (!device || (device->graphs == 0 && !device->capturing)) {
    release(index, copy);
    return;
  }
  Retired *entry = malloc(sizeof *entry);
  if (!entry) return; /* better lost than read after it was freed */
  *entry = (Retired){.next = retired[index], .copy = copy};
  retired[index] = entry;
}

void cuda_release_retired_maps(const CudaDevice *device) {
  while (retired[device->index]) {
    Retired *entry = retired[device->index];
    retired[device->index] = entry->next;
    release(device->index, entry->copy);
    free(entry);
  }
}

const MapTable *cuda_map_table(const CudaDevice *device, const Map *map) {
  /* The cache of device copies is the one part of a map that changes. */
  void **copy = &((Map *)map)->device_copy[device->index];
  if (*copy) return *copy;
  void *table = cuda_allocate_uncounted(device, sizeof(MapTable));
  if (!table) return NULL;
  /* From pageable memory this returns when the table has been read, so the map may go at once. */
  if (!cuda_check(
          cudaMemcpyAsync(table, &map->table, sizeof(MapTable), cudaMemcpyHostToDevice, cuda_direct_stream(device)),
          "cudaMemcpyAsync")) {
    release(device->index, table);
    return NULL;
  }
  return *copy = table;
}
