/* Device memory from CUDA's stream-ordered pool, transfers, scratch space, and the device copies of maps. */
#include "internal.h"

static void *allocate(int index, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  void *data;
  if (!device || !cuda_check(cudaMallocAsync(&data, bytes, device->launch.stream), "cudaMallocAsync")) return NULL;
  return data;
}

/* Work enqueued before this may still use the memory: the pool gives it out again only in the order of the stream. */
static void release(int index, void *data, size_t bytes) {
  (void)bytes;
  CudaDevice *device = cuda_device(index);
  if (device) cuda_check(cudaFreeAsync(data, device->launch.stream), "cudaFreeAsync");
}

static void trim(int index) {
  const CudaDevice *device = cuda_used_device(index);
  if (!device) return;
  cuda_check(cudaStreamSynchronize(device->launch.stream), "cudaStreamSynchronize");
  cuda_check(cudaMemPoolTrimTo(device->pool, 0), "cudaMemPoolTrimTo");
}

static size_t cached(int index) {
  const CudaDevice *device = cuda_used_device(index);
  uint64_t reserved = 0, used = 0;
  if (!device) return 0;
  if (!cuda_check(cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrReservedMemCurrent, &reserved),
                  "cudaMemPoolGetAttribute") ||
      !cuda_check(cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrUsedMemCurrent, &used),
                  "cudaMemPoolGetAttribute")) {
    return 0;
  }
  return reserved > used ? (size_t)(reserved - used) : 0;
}

const Allocator cuda_allocator = {allocate, release, trim, cached};

bool cuda_scratch(Tensor *scratch, const CudaDevice *device, int64_t bytes) {
  return tensor_create(scratch, DTYPE_U8, (Device){DEVICE_CUDA, device->index}, 1, &bytes);
}

void *cuda_allocate_uncounted(const CudaDevice *device, size_t bytes) {
  void *data = allocate(device->index, bytes);
  if (data) return data;
  trim(device->index);
  return allocate(device->index, bytes);
}

bool cuda_from_host(int index, void *device_data, const void *host, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device) return false;
  if (bytes == 0) return true;
  return cuda_check(cudaMemcpyAsync(device_data, host, bytes, cudaMemcpyHostToDevice, device->launch.stream),
                    "cudaMemcpyAsync") &&
         cuda_check(cudaStreamSynchronize(device->launch.stream), "cudaStreamSynchronize");
}

bool cuda_to_host(int index, void *host, const void *device_data, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device) return false;
  if (bytes > 0 && !cuda_check(cudaMemcpyAsync(host, device_data, bytes, cudaMemcpyDeviceToHost, device->launch.stream),
                               "cudaMemcpyAsync")) {
    return false;
  }
  return cuda_synchronize(index);
}

void cuda_release_map_copy(int index, void *copy) { release(index, copy, sizeof(MapTable)); }

const MapTable *cuda_map_table(const CudaDevice *device, const Map *map) {
  /* The cache of device copies is the one part of a map that changes. */
  void **copy = &((Map *)map)->device_copy[device->index];
  if (*copy) return *copy;
  cudaStream_t stream = device->launch.stream;
  void *table = cuda_allocate_uncounted(device, sizeof(MapTable));
  if (!table) return NULL;
  /* From pageable memory this returns when the table has been read, so the map may go at once. */
  if (!cuda_check(cudaMemcpyAsync(table, &map->table, sizeof(MapTable), cudaMemcpyHostToDevice, stream),
                  "cudaMemcpyAsync")) {
    cudaFreeAsync(table, stream);
    return NULL;
  }
  return *copy = table;
}
