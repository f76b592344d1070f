/* Counting elements in bins. Where the bins fit in shared memory, a thread block counts what it reads there and adds that
 * to the result once. Counts are integers: any order gives the same. */
#include "core/order/search.h"

#include "common.cuh"
#include "order/count.h"

namespace {

enum { BLOCK = 256, SHARED_BINS = 8192, EACH = 16 };

/* The bin of element i, or -1. */
__device__ inline int64_t bin_of(const HistogramPlan &plan, int64_t i) {
  if (plan.edges) return bin_between(plan.edges, plan.bins, load_float(plan.x, plan.dtype, i));
  const int64_t bin = load_integer(plan.x, plan.dtype, i);
  return bin >= 0 && bin < plan.bins ? bin : -1;
}

__global__ void __launch_bounds__(BLOCK) count_kernel(const __grid_constant__ HistogramPlan plan) {
  for (int64_t i = global_thread(); i < plan.count; i += global_threads()) {
    const int64_t bin = bin_of(plan, i);
    if (bin >= 0) atomicAdd(plan.counts + bin, 1ull);
  }
}

__global__ void __launch_bounds__(BLOCK) count_in_shared_kernel(const __grid_constant__ HistogramPlan plan) {
  __shared__ unsigned counts[SHARED_BINS];
  for (int bin = threadIdx.x; bin < plan.bins; bin += BLOCK) counts[bin] = 0;
  __syncthreads();
  for (int64_t i = global_thread(); i < plan.count; i += global_threads()) {
    const int64_t bin = bin_of(plan, i);
    if (bin >= 0) atomicAdd(counts + bin, 1u);
  }
  __syncthreads();
  for (int bin = threadIdx.x; bin < plan.bins; bin += BLOCK) {
    if (counts[bin] > 0) atomicAdd(plan.counts + bin, (unsigned long long)counts[bin]);
  }
}

} // namespace

extern "C" cudaError_t launch_histogram(Launch launch, const HistogramPlan *plan) {
  if (plan->count == 0 || plan->bins == 0) return cudaSuccess;
  if (plan->bins <= SHARED_BINS) {
    const int64_t each = BLOCK * EACH > plan->bins ? BLOCK * EACH : plan->bins;
    const int grid = grid_size(launch, plan->count, each, 7);
    count_in_shared_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  } else {
    count_kernel<<<grid_size(launch, plan->count, BLOCK, 64), BLOCK, 0, launch.stream>>>(*plan);
  }
  return cudaGetLastError();
}
