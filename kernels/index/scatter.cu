/* Putting elements or slices where an index says: over what is there, or combined with it. In any order with atomics, or
 * in the order of the index, in which a thread owns a column of the target. */
#include "index/place.cuh"

namespace {

/* SET moves words; the other rules compute. */
template <typename T> __device__ inline T combined(ScatterRule, T, T value) { return value; }
template <> __device__ inline float combined(ScatterRule rule, float old, float value) {
  return scatter_float(rule, old, value);
}
template <> __device__ inline int32_t combined(ScatterRule rule, int32_t old, int32_t value) {
  return (int32_t)scatter_integer(rule, old, value);
}
template <> __device__ inline int64_t combined(ScatterRule rule, int64_t old, int64_t value) {
  return scatter_integer(rule, old, value);
}

template <typename T> __device__ inline void put(ScatterRule, T *to, T value) { *to = value; }

/* `Bits` is the integer by which the element is exchanged. */
template <typename Bits, typename T> __device__ inline void combine(ScatterRule rule, T *to, T value) {
  Bits *cell = reinterpret_cast<Bits *>(to);
  Bits old = *cell;
  for (;;) {
    T before, after;
    memcpy(&before, &old, sizeof before);
    after = combined(rule, before, value);
    Bits bits;
    memcpy(&bits, &after, sizeof bits);
    if (bits == old) return;
    const Bits found = atomicCAS(cell, old, bits);
    if (found == old) return;
    old = found;
  }
}

template <> __device__ inline void put(ScatterRule rule, float *to, float value) {
  if (rule == SCATTER_SUM) {
    atomicAdd(to, value);
  } else {
    combine<unsigned>(rule, to, value);
  }
}
template <> __device__ inline void put(ScatterRule rule, int32_t *to, int32_t value) {
  combine<unsigned>(rule, to, value);
}
template <> __device__ inline void put(ScatterRule rule, int64_t *to, int64_t value) {
  combine<unsigned long long>(rule, to, value);
}

template <typename T>
__global__ void __launch_bounds__(BLOCK) scatter_kernel(const __grid_constant__ ScatterPlan plan) {
  const int64_t count = plan.index.outer * plan.index.picks * plan.index.inner;
  const T *source = static_cast<const T *>(plan.source);
  with_integer(plan.index.index_dtype, [&](auto index) {
    for (int64_t i = global_thread(); i < count; i += global_threads()) {
      const ElementPlace place = place_of(plan.index, i);
      const int64_t to = counterpart<decltype(index)>(plan.index, place, plan.slices ? place.pick : i, FAULT_SCATTER);
      if (to >= 0) put(plan.rule, static_cast<T *>(plan.x) + to, source[plan.one_value ? 0 : i]);
    }
  });
}

template <typename T>
__global__ void __launch_bounds__(BLOCK) scatter_in_order_kernel(const __grid_constant__ ScatterPlan plan) {
  constexpr int AT_ONCE = 8; /* values that are on their way from memory */
  const int64_t picks = plan.index.picks, width = plan.index.inner, columns = plan.index.outer * width;
  const T *source = static_cast<const T *>(plan.source);
  T *x = static_cast<T *>(plan.x);
  with_integer(plan.index.index_dtype, [&](auto index) {
    for (int64_t column = global_thread(); column < columns; column += global_threads()) {
      const int64_t outer = divide(column, width), inner = column - outer * width;
      for (int64_t first = 0; first < picks; first += AT_ONCE) {
        const int count = (int)(picks - first < AT_ONCE ? picks - first : AT_ONCE);
        int64_t to[AT_ONCE];
        T value[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (k >= count) break;
          const int64_t i = (outer * picks + first + k) * width + inner;
          to[k] = counterpart<decltype(index)>(plan.index, {outer, first + k, inner}, plan.slices ? first + k : i,
                                               FAULT_SCATTER);
          value[k] = source[plan.one_value ? 0 : i];
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (k < count && to[k] >= 0) x[to[k]] = combined(plan.rule, x[to[k]], value[k]);
        }
      }
    }
  });
}

template <typename T> cudaError_t scatter(Launch launch, const ScatterPlan &plan) {
  if (plan.in_order) {
    const int grid = grid_size(launch, plan.index.outer * plan.index.inner, BLOCK, 64);
    scatter_in_order_kernel<T><<<grid, BLOCK, 0, launch.stream>>>(plan);
  } else {
    scatter_kernel<T><<<index_grid(launch, plan.index), BLOCK, 0, launch.stream>>>(plan);
  }
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_scatter(Launch launch, const ScatterPlan *plan) {
  if (is_empty(plan->index)) return cudaSuccess;
  if (plan->rule == SCATTER_SET) {
    return with_word(plan->word, [&](auto word) { return scatter<decltype(word)>(launch, *plan); });
  }
  if (plan->dtype == DTYPE_F32) return scatter<float>(launch, *plan);
  return plan->dtype == DTYPE_I32 ? scatter<int32_t>(launch, *plan) : scatter<int64_t>(launch, *plan);
}
