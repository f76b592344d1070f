/* Events, to measure time on a device. */
#include "cuda/cuda.h"

bool cuda_event_record(int index, void **event) {
  CudaDevice *device = cuda_device(index);
  if (!device || !cuda_check_not_capturing(device, "recording an event")) return false;
  cudaEvent_t made = *event;
  if (!made && !cuda_check(cudaEventCreate(&made), "cudaEventCreate")) return false;
  *event = made;
  return cuda_check(cudaEventRecord(made, device->launch.stream), "cudaEventRecord");
}

bool cuda_event_elapsed(int index, void *start, void *end, double *milliseconds) {
  CudaDevice *device = cuda_device(index);
  float elapsed = 0;
  if (!device || !cuda_check_not_capturing(device, "waiting for an event") || !cuda_wait(device->launch.stream))
    return false;
  if (!cuda_check(cudaEventSynchronize(start), "cudaEventSynchronize") ||
      !cuda_check(cudaEventSynchronize(end), "cudaEventSynchronize") ||
      !cuda_check(cudaEventElapsedTime(&elapsed, start, end), "cudaEventElapsedTime")) {
    return false;
  }
  *milliseconds = elapsed;
  return true;
}

void cuda_event_release(int index, void *event) {
  if (cuda_device(index)) cuda_check(cudaEventDestroy(event), "cudaEventDestroy");
}
