/* Where what an index names lies. An index out of range reads 0 or writes nothing, and is reported to the host through
 * the fault word. */
#ifndef FP8_KERNELS_PLACE_CUH
#define FP8_KERNELS_PLACE_CUH

#include "common.cuh"
#include "index/index.h"

namespace {

enum { BLOCK = 256 };

/* Where element i of a tensor (outer, picks, inner) lies. */
struct ElementPlace {
  int64_t outer, pick, inner;
};

__device__ inline ElementPlace place_of(const IndexPlan &plan, int64_t i) {
  const int64_t slice = plan.inner == 1 ? i : divide(i, plan.inner);
  const int64_t outer = plan.outer == 1 ? 0 : divide(slice, plan.picks);
  return {outer, slice - outer * plan.picks, i - slice * plan.inner};
}

/* Element i's counterpart in a tensor (outer, length, inner), or -1 after reporting if `index[position]` is out of
 * range. */
template <typename Index>
__device__ inline int64_t counterpart(const IndexPlan &plan, ElementPlace place, int64_t position, FaultKind kind) {
  const int64_t index = static_cast<const Index *>(plan.index)[position];
  if (index >= 0 && index < plan.length) return (place.outer * plan.length + index) * plan.inner + place.inner;
  report_fault(plan.fault, kind, index);
  return -1;
}

inline int index_grid(Launch launch, const IndexPlan &plan) {
  return grid_size(launch, plan.outer * plan.picks * plan.inner, BLOCK, 64);
}

inline bool is_empty(const IndexPlan &plan) { return plan.outer == 0 || plan.picks == 0 || plan.inner == 0; }

} // namespace

#endif
