/* Device memory from CUDA's stream-ordered pool, scratch space, and transfers. */
#include <pthread.h>
#include <stdlib.h>

#include "cuda/cuda.h"

/* --- small allocations that are kept when they are freed ---
 *
 * An allocation from the pool with its free takes the host 1.2 µs, and a training step on small tensors makes a dozen.
 * All work of a context on a device is in the order of one stream, so what is freed may be given out again at once: the
 * work that used it has been enqueued before. Large ones go back to the pool, which can cut them for other sizes: writing
 * them takes the device longer than that takes the host. */

enum { CLASSES_A_POWER = 8, POWER_LEAST = 9, POWER_MOST = 20, CLASSES = CLASSES_A_POWER * (POWER_MOST - POWER_LEAST) };

static const size_t kept_least = (size_t)1 << POWER_LEAST, kept_most = (size_t)1 << POWER_MOST;
static const size_t kept_limit = (size_t)1 << 30;

_Static_assert(FREE_LISTS == CLASSES + 1, "a list for each size");

/* Rounds *bytes up to the size of its class, one of eight in each power of two; -1 for sizes that are not kept. */
static int size_class(size_t *bytes) {
  if (*bytes > kept_most) return -1;
  if (*bytes <= kept_least) {
    *bytes = kept_least;
    return 0;
  }
  int power = 63 - __builtin_clzll(*bytes - 1);
  size_t step = ((size_t)1 << power) / CLASSES_A_POWER, base = (size_t)1 << power;
  size_t steps = divide_up(*bytes - base, step);
  *bytes = base + steps * step;
  return (power - POWER_LEAST) * CLASSES_A_POWER + (int)steps;
}

/* false where there is no memory for a longer list. */
static bool keep(FreeList *list, void *data) {
  if (list->count == list->room) {
    int room = list->room ? 2 * list->room : 64;
    void **longer = realloc(list->data, (size_t)room * sizeof *longer);
    if (!longer) return false;
    list->data = longer;
    list->room = room;
  }
  list->data[list->count++] = data;
  return true;
}

/* --- how far the device is behind ---
 *
 * An event after every mark_bytes of allocations. Where the device has not come to the one before the last, it has the
 * work on at least as many bytes to do, a third of a millisecond for each gigabyte that is written once. */

static const size_t mark_bytes = (size_t)1 << 30;

static void note_allocation(CudaDevice *device, size_t bytes) {
  device->unmarked_bytes += bytes;
  if (device->unmarked_bytes < mark_bytes || device->capturing) return;
  device->unmarked_bytes = 0;
  cudaEvent_t *mark = &device->marks[device->next_mark];
  if (!*mark && cudaEventCreateWithFlags(mark, cudaEventDisableTiming) != cudaSuccess) {
    cudaGetLastError();
    *mark = NULL;
    return;
  }
  if (cudaEventRecord(*mark, device->launch.stream) != cudaSuccess) cudaGetLastError();
  device->next_mark = 1 - device->next_mark;
}

static bool is_behind(int index) {
  const CudaDevice *device = cuda_used_device(index);
  if (!device || device->capturing || !device->marks[device->next_mark]) return false;
  cudaError_t state = cudaEventQuery(device->marks[device->next_mark]);
  cudaGetLastError(); /* that it is not ready is no error of the next call */
  return state == cudaErrorNotReady;
}

/* --- what the pool holds ---
 *
 * Freed memory stays in the pool, but for what is beyond a quarter more than was ever in use at once: of sizes that do not
 * come again, what they leave can't always be put together for others. The pool gives that back when something waits for
 * the device. All contexts of the process have one pool, and each adds what it needs. */

static void set_most_used(CudaDevice *device, size_t bytes) {
  static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER; /* several threads may have a context each */
  uint64_t threshold;
  pthread_mutex_lock(&one_at_a_time);
  if (cuda_check(cudaMemPoolGetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &threshold),
                 "cudaMemPoolGetAttribute")) {
    threshold += bytes + bytes / 4;
    threshold -= device->most_used_bytes + device->most_used_bytes / 4;
    device->most_used_bytes = bytes;
    cuda_check(cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &threshold),
               "cudaMemPoolSetAttribute");
  }
  pthread_mutex_unlock(&one_at_a_time);
}

static void note_use(CudaDevice *device, size_t bytes) {
  device->used_bytes += bytes;
  if (device->used_bytes <= device->most_used_bytes) return;
  set_most_used(device, device->used_bytes + device->used_bytes / 32); /* not at every allocation */
}

static void *allocate(int index, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device) return NULL;
  note_allocation(device, bytes);
  int class = size_class(&bytes);
  FreeList *list = class >= 0 ? &device->free_list[class] : NULL;
  if (list && list->count > 0) {
    device->free_bytes -= bytes;
    return list->data[--list->count];
  }
  void *data;
  if (!cuda_check(cudaMallocAsync(&data, bytes, cuda_direct_stream(device)), "cudaMallocAsync")) return NULL;
  note_use(device, bytes);
  return data;
}

/* Work enqueued before this may still use the memory: it is given out again only in the order of the stream. */
static void release(int index, void *data, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device) return;
  int class = size_class(&bytes);
  if (class >= 0 && device->free_bytes + bytes <= kept_limit && keep(&device->free_list[class], data)) {
    device->free_bytes += bytes;
    return;
  }
  device->used_bytes -= bytes;
  cuda_check(cudaFreeAsync(data, cuda_direct_stream(device)), "cudaFreeAsync");
}

static void free_lists(CudaDevice *device, cudaStream_t stream) {
  for (int class = 0; class < FREE_LISTS; class ++) {
    FreeList *list = &device->free_list[class];
    while (list->count > 0) cuda_check(cudaFreeAsync(list->data[--list->count], stream), "cudaFreeAsync");
  }
  device->used_bytes -= device->free_bytes;
  device->free_bytes = 0;
  cuda_check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

static void trim(int index) {
  if (!cuda_used_device(index)) return;
  CudaDevice *device = cuda_device(index);
  if (!device) return;
  cuda_enter_device_call();
  free_lists(device, cuda_direct_stream(device));
  cuda_check(cudaMemPoolTrimTo(device->pool, 0), "cudaMemPoolTrimTo");
  cuda_leave_device_call();
}

void cuda_release_memory(CudaDevice *device) {
  free_lists(device, device->launch.stream);
  set_most_used(device, 0);
  for (int class = 0; class < FREE_LISTS; class ++) free(device->free_list[class].data);
  for (int i = 0; i < 2; i++) {
    if (device->marks[i]) cudaEventDestroy(device->marks[i]);
  }
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
  return (size_t)(reserved > used ? reserved - used : 0) + device->free_bytes;
}

const Allocator cuda_allocator = {
    .allocate = allocate,
    .release = release,
    .trim = trim,
    .cached = cached,
    .collect_above = (size_t)3 << 30,
    .collect_step = (size_t)128 << 20,
    .is_behind = is_behind,
};

bool cuda_scratch(Tensor *scratch, const CudaDevice *device, int64_t bytes) {
  return tensor_create(scratch, DTYPE_U8, (Device){cuda_kind, device->index}, 1, &bytes);
}

void *cuda_allocate_uncounted(const CudaDevice *device, size_t bytes) {
  void *data = allocate(device->index, bytes);
  if (data) return data;
  trim(device->index);
  return allocate(device->index, bytes);
}

bool cuda_from_host(int index, void *device_data, const void *host, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device || !cuda_check_not_capturing(device, "a copy from the CPU")) return false;
  if (bytes == 0) return true;
  return cuda_check(cudaMemcpyAsync(device_data, host, bytes, cudaMemcpyHostToDevice, device->launch.stream),
                    "cudaMemcpyAsync") &&
         cuda_check(cudaStreamSynchronize(device->launch.stream), "cudaStreamSynchronize");
}

bool cuda_to_host(int index, void *host, const void *device_data, size_t bytes) {
  CudaDevice *device = cuda_device(index);
  if (!device || !cuda_check_not_capturing(device, "a copy to the CPU")) return false;
  if (!cuda_wait(device->launch.stream)) return false; /* before the copy has begun, which can't be given up */
  if (bytes > 0 && !cuda_check(cudaMemcpyAsync(host, device_data, bytes, cudaMemcpyDeviceToHost, device->launch.stream),
                               "cudaMemcpyAsync")) {
    return false;
  }
  return cuda_synchronize(index);
}
