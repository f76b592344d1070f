/* The streams that distributed/nccl.c works on: the context's own, and one beside it, so that gradients travel while
 * others are still computed. These functions are found by their names, in a library that is loaded. */
#include "cuda/cuda.h"

/* The stream of the current context's work on a device; NULL with an error. */
FP8_API void *fp8_cuda_stream(int index) {
  const CudaDevice *device = cuda_device(index);
  return device ? device->launch.stream : NULL;
}

static bool open_beside(CudaDevice *device) {
  if (device->beside) return true;
  cudaStream_t stream = NULL;
  if ((!device->fork &&
       !cuda_check(cudaEventCreateWithFlags(&device->fork, cudaEventDisableTiming), "cudaEventCreate")) ||
      (!device->join &&
       !cuda_check(cudaEventCreateWithFlags(&device->join, cudaEventDisableTiming), "cudaEventCreate")) ||
      !cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags")) {
    return false;
  }
  device->beside = stream;
  return true;
}

/* The stream beside it, once it waits for all that has been enqueued; NULL with an error. */
FP8_API void *fp8_cuda_fork(int index) {
  CudaDevice *device = cuda_device(index);
  if (!device || !open_beside(device) ||
      !cuda_check(cudaEventRecord(device->fork, device->launch.stream), "cudaEventRecord") ||
      !cuda_check(cudaStreamWaitEvent(device->beside, device->fork, 0), "cudaStreamWaitEvent")) {
    return NULL;
  }
  return device->beside;
}

/* What is enqueued from here on waits for what has been enqueued beside it. */
FP8_API bool fp8_cuda_join(int index) {
  CudaDevice *device = cuda_device(index);
  return device && device->beside && cuda_check(cudaEventRecord(device->join, device->beside), "cudaEventRecord") &&
         cuda_check(cudaStreamWaitEvent(device->launch.stream, device->join, 0), "cudaStreamWaitEvent");
}

void cuda_release_beside(CudaDevice *device) {
  if (device->beside) cudaStreamDestroy(device->beside);
  if (device->fork) cudaEventDestroy(device->fork);
  if (device->join) cudaEventDestroy(device->join);
}
