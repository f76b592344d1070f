/* Adding slices up by an index that is long, after a stable sort of it: each thread owns 16 bytes or more of a slice of
 * the output and adds what the index has for it, which now lies side by side, in the order of the index. Slices that
 * nothing is added to are not touched. */
#include "index/index.h"
#include "rows.cuh"

namespace {

enum {
  BLOCK = 256,
  AT_ONCE = 4 /* slices that are on their way from memory */
};

/* Where the entries of each slice begin in the sorted index, and where those of the last end. */
__global__ void __launch_bounds__(BLOCK) starts_kernel(const __grid_constant__ IndexAddPlan plan) {
  for (int64_t slice = global_thread(); slice <= plan.index.length; slice += global_threads()) {
    int64_t low = 0, high = plan.index.picks;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (plan.sorted_index[middle] < slice) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    plan.starts[slice] = (int32_t)low;
  }
}

template <typename Out, typename In, int N>
__global__ void __launch_bounds__(BLOCK) index_add_sorted_kernel(const __grid_constant__ IndexAddPlan plan) {
  const int64_t length = plan.index.length, inner = plan.index.inner, vectors = inner / N;
  const int64_t count = plan.index.outer * length * vectors;
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    const int64_t slice = divide(i, vectors), outer = divide(slice, length);
    const int begin = plan.starts[slice - outer * length], end = plan.starts[slice - outer * length + 1];
    if (begin == end && plan.adds) continue;
    const int64_t x_begin = outer * plan.index.picks * inner + (i - slice * vectors) * N;
    float sum[N] = {0};
    if (plan.adds) load_as<Out>(plan.out, i * N, sum);
    for (int first = begin; first < end; first += AT_ONCE) {
      float value[AT_ONCE][N];
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        if (first + k < end) load_as<In>(plan.x, x_begin + plan.positions[first + k] * inner, value[k]);
      }
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        if (first + k >= end) break;
#pragma unroll
        for (int n = 0; n < N; n++) sum[n] += value[k][n];
      }
    }
    store_as<Out>(plan.out, i * N, sum);
  }
}

} // namespace

extern "C" cudaError_t launch_index_add_sorted(Launch launch, const IndexAddPlan *plan) {
  starts_kernel<<<grid_size(launch, plan->index.length + 1, BLOCK, 8), BLOCK, 0, launch.stream>>>(*plan);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  return with_scalar(plan->out_dtype, [&](auto out) {
    using Out = decltype(out);
    return with_scalar(plan->dtype, [&](auto in) {
      using In = decltype(in);
      constexpr int N = vector_width < Out >> vector_width<In> ? vector_width<Out> : vector_width<In>;
      const int64_t vectors = plan->index.outer * plan->index.length * (plan->index.inner / N);
      index_add_sorted_kernel<Out, In, N><<<grid_size(launch, vectors, BLOCK, 256), BLOCK, 0, launch.stream>>>(*plan);
      return cudaGetLastError();
    });
  });
}

extern "C" bool index_add_fits_vectors(const IndexAddPlan *plan) {
  const bool floats = dtype_is_compute_float(plan->dtype) && dtype_is_compute_float(plan->out_dtype);
  return floats && plan->index.inner % 8 == 0 && on_vector(plan->x) && on_vector(plan->out);
}
