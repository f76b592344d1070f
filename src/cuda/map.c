/* The device copies of maps. */
#include <stddef.h>
#include <stdlib.h>

#include "cuda/cuda.h"

/* A copy that left the cache of maps while there was a graph, which may read it. */
typedef struct RetiredMap {
  struct RetiredMap *next;
  void *copy;
} RetiredMap;

/* The look-up of entries below follows the table. */
enum { COPY_BYTES = sizeof(MapTable) + sizeof(MapLookup) };
_Static_assert(offsetof(Map, below) == sizeof(MapTable), "a map's table and its second look-up are copied as one");

static void release(int index, void *copy) { cuda_allocator.release(index, copy, COPY_BYTES); }

/* At once, or when the last graph is gone: a graph may read it. */
static void release_copy(int index, void *copy) {
  CudaDevice *device = cuda_device(index);
  if (!device) return;
  if (device->graphs == 0 && !device->capturing) {
    release(index, copy);
    return;
  }
  RetiredMap *entry = host_allocate(sizeof *entry);
  if (!entry) return; /* better lost than read after it was freed */
  *entry = (RetiredMap){.next = device->retired, .copy = copy};
  device->retired = entry;
}

void cuda_release_retired_maps(CudaDevice *device) {
  while (device->retired) {
    RetiredMap *entry = device->retired;
    device->retired = entry->next;
    release(device->index, entry->copy);
    free(entry);
  }
}

const MapTable *cuda_map_table(const CudaDevice *device, Map *map) {
  MapForm *form = &map->form[cuda_kind][device->index];
  if (form->data) return form->data;
  void *table = cuda_allocate_uncounted(device, COPY_BYTES);
  if (!table) return NULL;
  map_prepare_below(map);
  /* From pageable memory this returns when the table has been read, so the map may go at once. */
  if (!cuda_check(cudaMemcpyAsync(table, map, COPY_BYTES, cudaMemcpyHostToDevice, cuda_direct_stream(device)),
                  "cudaMemcpyAsync")) {
    release(device->index, table);
    return NULL;
  }
  *form = (MapForm){table, release_copy};
  return table;
}
