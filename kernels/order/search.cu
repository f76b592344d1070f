/* Searching in ascending lists: a thread a value. */
#include "core/order/search.h"

#include "common.cuh"
#include "order/search.h"

namespace {

enum { BLOCK = 256 };

__global__ void __launch_bounds__(BLOCK) search_kernel(const __grid_constant__ SearchPlan plan) {
  for (int64_t i = global_thread(); i < plan.count; i += global_threads()) {
    const int64_t first = plan.columns == plan.count ? 0 : divide(i, plan.columns) * plan.length;
    plan.out[i] = plan.integers ? search_integers(static_cast<const int64_t *>(plan.sorted) + first, plan.length,
                                                  load_integer(plan.values, plan.dtype, i), plan.right)
                                : search_floats(static_cast<const float *>(plan.sorted) + first, plan.length,
                                                load_float(plan.values, plan.dtype, i), plan.right);
  }
}

} // namespace

extern "C" cudaError_t launch_searchsorted(Launch launch, const SearchPlan *plan) {
  if (plan->count == 0) return cudaSuccess;
  search_kernel<<<grid_size(launch, plan->count, BLOCK, 64), BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}
