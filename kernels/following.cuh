/* A kernel whose thread blocks start while the one before it ends (programmatic dependent launch, from Hopper on): it waits
 * for all that one has written before it reads anything. */
#ifndef FP8_KERNELS_FOLLOWING_CUH
#define FP8_KERNELS_FOLLOWING_CUH

#include <atomic>

#include "common.cuh"

/* In the kernel before, once what is left to do gains nothing from the room that the next one's thread blocks will take. */
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/* In the kernel after it, before anything else. */
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

/* Whether the driver runs Hopper's code of a kernel on the current device, and none that it made from another kind's PTX. */
template <auto KERNEL> bool has_hopper_code() {
  enum { MOST_DEVICES = 64 };
  static std::atomic<signed char> known[MOST_DEVICES]; /* 1 or -1 once it is */
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= MOST_DEVICES) return false;
  signed char has = known[device].load(std::memory_order_relaxed);
  if (has == 0) {
    cudaFuncAttributes found;
    const cudaError_t error = cudaFuncGetAttributes(&found, (const void *)KERNEL);
    if (error != cudaSuccess) cudaGetLastError(); /* or the next launch would report it again */
    has = error == cudaSuccess && found.binaryVersion >= 90 && found.ptxVersion >= 90 ? 1 : -1;
    known[device].store(has, std::memory_order_relaxed);
  }
  return has > 0;
}

#endif
