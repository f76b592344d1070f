/* How many flags are not 0, and their coordinates: how many each slice of the flags has says where its coordinates
 * begin. */
#include <cub/block/block_scan.cuh>
#include <cub/device/device_scan.cuh>

#include "common.cuh"
#include "order/select.h"

namespace {

enum {
  THREADS = 256,
  WARPS = THREADS / WARP,
  EACH = 16, /* neighbouring flags that a thread has at once */
  SLICE = THREADS * EACH,
  WAVES = 32 /* of thread blocks that count */
};

/* A bit for each of the flags from `first` on, up to EACH: whether it is not 0. */
__device__ inline uint32_t chosen(const NonzeroPlan &plan, int64_t first) {
  const uint8_t *flags = plan.flags + first;
  uint32_t bits = 0;
  if (plan.count - first >= EACH && (uintptr_t)flags % EACH == 0) {
    const uint4 raw = *reinterpret_cast<const uint4 *>(flags);
    const uint32_t word[] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const uint32_t spread = __vcmpne4(word[k], 0) & 0x08040201; /* bit b of byte b */
      bits |= (spread * 0x01010101 >> 24) << 4 * k;
    }
    return bits;
  }
  for (int k = 0; k < EACH && k < plan.count - first; k++) bits |= (uint32_t)(flags[k] != 0) << k;
  return bits;
}

/* How many a slice has: the same for all lanes of the warp. */
__device__ inline uint32_t count_slice(const NonzeroPlan &plan, int64_t slice) {
  uint32_t sum = 0;
#pragma unroll
  for (int k = 0; k < SLICE / (WARP * EACH); k++) {
    const int64_t first = slice * SLICE + (k * WARP + threadIdx.x % WARP) * EACH;
    if (first < plan.count) sum += __popc(chosen(plan, first));
  }
  return combine_across<WARP>(sum, [](uint32_t a, uint32_t b) { return a + b; });
}

/* Adds those of all slices to *plan.out or, where there is `counts`, writes them there; a warp a slice. */
__global__ void __launch_bounds__(THREADS)
    count_flags_kernel(const __grid_constant__ NonzeroPlan plan, int64_t slices, int64_t *counts) {
  const int64_t warp = (int64_t)blockIdx.x * WARPS + threadIdx.x / WARP, warps = (int64_t)gridDim.x * WARPS;
  int64_t sum = 0;
  for (int64_t slice = warp; slice < slices; slice += warps) {
    const uint32_t own = count_slice(plan, slice);
    if (counts && threadIdx.x % WARP == 0) counts[slice] = own;
    sum += own;
  }
  if (!counts && threadIdx.x % WARP == 0 && sum > 0) {
    atomicAdd(reinterpret_cast<unsigned long long *>(plan.out), (unsigned long long)sum);
  }
}

/* Writes the coordinates of a position as a row of the output. */
__device__ inline void write_coordinates(const NonzeroPlan &plan, int64_t row, int64_t position) {
  if (plan.rank == 2) { /* at once */
    const int64_t across = plan.size[1], down = divide(position, across);
    reinterpret_cast<longlong2 *>(plan.out)[row] = make_longlong2(down, position - down * across);
    return;
  }
  int64_t *out = plan.out + row * plan.rank;
  for (int d = plan.rank - 1; d > 0; d--) {
    const int64_t rest = divide(position, plan.size[d]);
    out[d] = position - rest * plan.size[d];
    position = rest;
  }
  out[0] = position;
}

/* A thread block a slice, which has begin[slice] before it. Its places are gathered first, so that neighbouring threads
 * write neighbouring rows. */
__global__ void __launch_bounds__(THREADS)
    coordinates_kernel(const __grid_constant__ NonzeroPlan plan, const int64_t *begin) {
  using Scan = cub::BlockScan<uint32_t, THREADS>;
  __shared__ typename Scan::TempStorage scan;
  __shared__ uint16_t place[SLICE];
  const int64_t start = (int64_t)blockIdx.x * SLICE, first = start + threadIdx.x * EACH;
  const int64_t row = begin[blockIdx.x];
  uint32_t bits = first < plan.count ? chosen(plan, first) : 0, next, total;
  Scan(scan).ExclusiveSum((uint32_t)__popc(bits), next, total);
  for (; bits; bits &= bits - 1) place[next++] = (uint16_t)(threadIdx.x * EACH + __ffs(bits) - 1);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < total; i += THREADS) write_coordinates(plan, row + i, start + place[i]);
}

cudaError_t count_slices(Launch launch, const NonzeroPlan *plan, int64_t *counts) {
  const int64_t slices = divide_up(plan->count, SLICE);
  const int grid = grid_size(launch, slices, WARPS, WAVES);
  count_flags_kernel<<<grid, THREADS, 0, launch.stream>>>(*plan, slices, counts);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_count_flags(Launch launch, const NonzeroPlan *plan) {
  const cudaError_t error = cudaMemsetAsync(plan->out, 0, sizeof *plan->out, launch.stream);
  return error != cudaSuccess || plan->count == 0 ? error : count_slices(launch, plan, NULL);
}

extern "C" cudaError_t launch_nonzero(Launch launch, const NonzeroPlan *plan, void *scratch, size_t *bytes) {
  const int64_t slices = divide_up(plan->count, SLICE);
  if (slices > INT32_MAX) return cudaErrorInvalidConfiguration;
  int64_t *begin = static_cast<int64_t *>(scratch);
  size_t scan_bytes = 0;
  const size_t counts_bytes = (size_t)divide_up(slices * (int64_t)sizeof *begin, 256) * 256;
  cudaError_t error = cub::DeviceScan::ExclusiveSum(NULL, scan_bytes, begin, begin, slices, launch.stream);
  if (!scratch) *bytes = counts_bytes + scan_bytes;
  if (error != cudaSuccess || !scratch) return error;
  error = count_slices(launch, plan, begin);
  if (error != cudaSuccess) return error;
  error =
      cub::DeviceScan::ExclusiveSum((char *)scratch + counts_bytes, scan_bytes, begin, begin, slices, launch.stream);
  if (error != cudaSuccess) return error;
  coordinates_kernel<<<(unsigned)slices, THREADS, 0, launch.stream>>>(*plan, begin);
  return cudaGetLastError();
}
