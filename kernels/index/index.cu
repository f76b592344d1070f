/* Picking slices along a dimension (index_select), and picking and adding single elements (gather, scatter_add), by an
 * integer index from 0. An index out of range reads 0 or writes nothing, and is reported to the host through the
 * fault word. */
#include "common.cuh"
#include "index/index.h"

namespace {

enum { BLOCK = 256 };

/* Where element i of a tensor (outer, picks, inner) lies. */
struct ElementPlace {
  int64_t outer, pick, inner;
};

__device__ inline ElementPlace place_of(const IndexPlan &plan, int64_t i) {
  const int64_t slice = divide(i, plan.inner);
  const int64_t outer = divide(slice, plan.picks);
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

/* By slice: the index has one entry a pick; by element: one for every element. */
template <typename Word, bool BY_SLICE>
__global__ void __launch_bounds__(BLOCK) pick_kernel(Word *out, const Word *x, const __grid_constant__ IndexPlan plan) {
  const int64_t count = plan.outer * plan.picks * plan.inner;
  with_integer(plan.index_dtype, [&](auto index) {
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
      const ElementPlace place = place_of(plan, i);
      const int64_t from = counterpart<decltype(index)>(plan, place, BY_SLICE ? place.pick : i,
                                                        BY_SLICE ? FAULT_INDEX_SELECT : FAULT_GATHER);
      out[i] = from >= 0 ? x[from] : Word{};
    }
  });
}

__global__ void __launch_bounds__(BLOCK)
    add_kernel(float *out, const void *x, DType dtype, const __grid_constant__ IndexPlan plan) {
  const int64_t count = plan.outer * plan.picks * plan.inner;
  with_integer(plan.index_dtype, [&](auto index) {
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
      const ElementPlace place = place_of(plan, i);
      const int64_t to = counterpart<decltype(index)>(plan, place, i, FAULT_SCATTER_ADD);
      if (to >= 0) atomicAdd(out + to, load_float(x, dtype, i));
    }
  });
}

/* A thread owns a column of the output, and adds to it in the order of the picks. */
__global__ void __launch_bounds__(BLOCK)
    add_in_order_kernel(float *out, const void *x, DType dtype, const __grid_constant__ IndexPlan plan) {
  constexpr int AT_ONCE = 8; /* values that are on their way from memory */
  const int64_t columns = plan.outer * plan.inner;
  with_integer(plan.index_dtype, [&](auto index) {
    for (int64_t column = global_thread(); column < columns; column += global_threads()) {
      const int64_t outer = divide(column, plan.inner), inner = column - outer * plan.inner;
      for (int64_t first = 0; first < plan.picks; first += AT_ONCE) {
        const int count = (int)(plan.picks - first < AT_ONCE ? plan.picks - first : AT_ONCE);
        int64_t to[AT_ONCE];
        float value[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (k >= count) break;
          const int64_t position = (outer * plan.picks + first + k) * plan.inner + inner;
          to[k] = counterpart<decltype(index)>(plan, {outer, first + k, inner}, position, FAULT_SCATTER_ADD);
          value[k] = load_float(x, dtype, position);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (k < count && to[k] >= 0) out[to[k]] += value[k];
        }
      }
    }
  });
}

int index_grid(Launch launch, const IndexPlan *plan) {
  return grid_size(launch, plan->outer * plan->picks * plan->inner, BLOCK, 64);
}

bool is_empty(const IndexPlan *plan) { return plan->outer == 0 || plan->picks == 0 || plan->inner == 0; }

template <typename Word, bool BY_SLICE>
cudaError_t pick(Launch launch, void *out, const void *x, const IndexPlan *plan) {
  pick_kernel<Word, BY_SLICE><<<index_grid(launch, plan), BLOCK, 0, launch.stream>>>(
      static_cast<Word *>(out), static_cast<const Word *>(x), *plan);
  return cudaGetLastError();
}

template <bool BY_SLICE>
cudaError_t pick_words(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan) {
  if (is_empty(plan)) return cudaSuccess;
  return with_word(word_bytes, [&](auto word) { return pick<decltype(word), BY_SLICE>(launch, out, x, plan); });
}

} // namespace

extern "C" cudaError_t launch_index_select(Launch launch, void *out, const void *x, int word_bytes,
                                           const IndexPlan *plan) {
  return pick_words<true>(launch, out, x, word_bytes, plan);
}

extern "C" cudaError_t launch_gather(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan) {
  return pick_words<false>(launch, out, x, word_bytes, plan);
}

extern "C" cudaError_t launch_scatter_add(Launch launch, float *out, const void *x, DType dtype, bool in_order,
                                          const IndexPlan *plan) {
  if (is_empty(plan)) return cudaSuccess;
  if (in_order) {
    const int grid = grid_size(launch, plan->outer * plan->inner, BLOCK, 64);
    add_in_order_kernel<<<grid, BLOCK, 0, launch.stream>>>(out, x, dtype, *plan);
  } else {
    add_kernel<<<index_grid(launch, plan), BLOCK, 0, launch.stream>>>(out, x, dtype, *plan);
  }
  return cudaGetLastError();
}
