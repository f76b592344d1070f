/* Devices: their streams, errors, and the faults that kernels report. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/context.h"
#include "core/process.h"
#include "cuda/cuda.h"

DeviceKind cuda_kind;

bool cuda_check(cudaError_t error, const char *call) {
  if (error == cudaSuccess) return true;
  cudaGetLastError(); /* or the next launch would report it again */
  return error_set("%s: %s", call, cudaGetErrorString(error));
}

bool cuda_setting(const char *name, bool unset) {
  const char *setting = getenv(name);
  return setting ? strcmp(setting, "0") != 0 : unset;
}

static bool debugging(void) {
  static int on = -1;
  if (on < 0) on = cuda_setting("FP8_DEBUG", false);
  return on;
}

bool cuda_launched(const CudaDevice *device, cudaError_t error, const char *name) {
  if (error == cudaSuccess && debugging() && !device->capturing) error = cudaStreamSynchronize(device->launch.stream);
  return cuda_check(error, name);
}

int cuda_device_count(void) {
  static int known = -1; /* it does not change while a process runs, and is asked for often */
  int count = 0;
  if (known >= 0) return known;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return known = count < DEVICE_MAX ? count : DEVICE_MAX;
}

static bool open_fault(CudaDevice *device) {
  void *host, *mapped;
  if (!cuda_check(cudaHostAlloc(&host, sizeof(long long), cudaHostAllocMapped), "cudaHostAlloc")) return false;
  if (!cuda_check(cudaHostGetDevicePointer(&mapped, host, 0), "cudaHostGetDevicePointer")) {
    cudaFreeHost(host);
    return false;
  }
  device->fault = host;
  device->mapped_fault = mapped;
  *device->fault = 0;
  return true;
}

static bool open_device(CudaDevice *device, int index) {
  int major, minor;
  device->index = index;
  if (!cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index), "cudaDeviceGetAttribute") ||
      !cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index), "cudaDeviceGetAttribute") ||
      !cuda_check(cudaDeviceGetAttribute(&device->launch.multiprocessors, cudaDevAttrMultiProcessorCount, index),
                  "cudaDeviceGetAttribute")) {
    return false;
  }
  device->capability = 10 * major + minor;
  if (device->capability < 80) {
    return error_set("cuda:%d: compute capability %d.%d is below 8.0, the lowest supported", index, major, minor);
  }
  if (!cuda_check(cudaDeviceGetDefaultMemPool(&device->pool, index), "cudaDeviceGetDefaultMemPool") ||
      !open_fault(device)) {
    return false;
  }
  cudaError_t error = cudaStreamCreateWithFlags(&device->launch.stream, cudaStreamNonBlocking);
  if (error != cudaSuccess) cudaFreeHost((void *)device->fault);
  return cuda_check(error, "cudaStreamCreateWithFlags");
}

static bool make_current(int index) {
  static _Thread_local int current = -1;
  if (index == current) return true;
  process_has_threads();
  if (!cuda_check(cudaSetDevice(index), "cudaSetDevice")) return false;
  current = index;
  return true;
}

/* What is left of a context, of which no tensor is alive: nothing can be told of errors any more. */
static void release_devices(void *data) {
  CudaDevice *devices = data;
  cuda_enter_device_call();
  for (int i = 0; i < DEVICE_MAX; i++) {
    CudaDevice *device = &devices[i];
    if (!device->launch.stream || !make_current(i)) continue;
    cuda_release_retired_maps(device);
    cuda_release_products(device);
    cuda_release_convolutions(device);
    cuda_release_bands(device);
    cuda_release_memory(device);
    if (device->side) cudaStreamDestroy(device->side);
    cuda_release_beside(device);
    cudaStreamDestroy(device->launch.stream);
    cudaFreeHost((void *)device->fault);
  }
  cuda_leave_device_call();
  free(devices);
}

/* The context's devices; NULL with an error. */
static CudaDevice *context_devices(void) {
  BackendState *state = &context_current()->backend[cuda_kind];
  if (state->data) return state->data;
  CudaDevice *devices = host_allocate_zeroed(DEVICE_MAX, sizeof *devices);
  if (!devices) return NULL;
  *state = (BackendState){devices, release_devices};
  return devices;
}

CudaDevice *cuda_device(int index) {
  if (index < 0 || index >= DEVICE_MAX) {
    error_set("cuda:%d: no such device", index);
    return NULL;
  }
  CudaDevice *devices = context_devices();
  if (!devices || !make_current(index)) return NULL;
  CudaDevice *device = &devices[index];
  if (!device->launch.stream) {
    CudaDevice opened = {0};
    cuda_enter_device_call();
    bool done = open_device(&opened, index);
    cuda_leave_device_call();
    if (!done) return NULL;
    *device = opened;
  }
  return device;
}

CudaDevice *cuda_tensor_device(const Tensor *tensor) { return cuda_device(tensor_device(tensor).index); }

const CudaDevice *cuda_used_device(int index) {
  const CudaDevice *devices = context_current()->backend[cuda_kind].data;
  return devices && index >= 0 && index < DEVICE_MAX && devices[index].launch.stream ? &devices[index] : NULL;
}

/* Reports and clears what kernels left in the fault word; the stream must be idle. */
static bool check_fault(CudaDevice *device) {
  static const char *const operations[FAULT_KIND_COUNT] = {
      [FAULT_CROSS_ENTROPY] = "cross_entropy",
      [FAULT_INDEX_SELECT] = "index_select",
      [FAULT_INDEX_ADD] = "index_add",
      [FAULT_GATHER] = "gather",
      [FAULT_SCATTER] = "scatter",
  };
  long long fault = *device->fault;
  if (fault == 0) return true;
  *device->fault = 0;
  int kind = fault & 0xFF;
  const char *what = kind == FAULT_CROSS_ENTROPY ? "target" : "index";
  return error_set("%s %lld is out of range in an earlier %s", what, fault >> 8, operations[kind]);
}

bool cuda_check_not_capturing(const CudaDevice *device, const char *what) {
  return !device->capturing || error_set("%s can't be captured in a graph", what);
}

static void wait_a_little(int64_t waits) {
  static const int64_t busy = 1000; /* waits, a microsecond or two each, after which the thread sleeps instead */
  if (waits < busy) return;
  nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

bool cuda_wait(cudaStream_t stream) {
  const Context *context = context_current();
  if (!context->interruptible) return true;
  cudaError_t error = cudaStreamQuery(stream);
  for (int64_t waits = 0; error == cudaErrorNotReady; waits++) {
    if (context_stops(context)) {
      cudaGetLastError();
      return error_set("interrupted while waiting for the device");
    }
    wait_a_little(waits);
    error = cudaStreamQuery(stream);
  }
  cudaGetLastError(); /* what failed is told by whoever waits now, in no time */
  return true;
}

bool cuda_synchronize(int index) {
  CudaDevice *device = cuda_device(index);
  if (!device || !cuda_check_not_capturing(device, "waiting for the device")) return false;
  return cuda_wait(device->launch.stream) &&
         cuda_check(cudaStreamSynchronize(device->launch.stream), "cudaStreamSynchronize") && check_fault(device);
}
