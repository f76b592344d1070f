/* Addresses in shared memory, as instructions take them that the compiler has no name for. */
#ifndef FP8_KERNELS_SHARED_ADDRESS_CUH
#define FP8_KERNELS_SHARED_ADDRESS_CUH

#include "common.cuh"

namespace {

__device__ inline uint32_t shared_address(const void *data) { return (uint32_t)__cvta_generic_to_shared(data); }

} // namespace

#endif
