/* Adding elements to rows where an index says: a thread block has the sums of a row in shared memory, in float32, so that
 * the row is read and written once. */
#include "index/index.h"
#include "rows.cuh"

namespace {

enum {
  BLOCK = 256,
  AT_ONCE = 4 /* elements that are on their way from memory */
};

/* N elements of a row move at once. */
template <typename Scalar, typename Index, int N>
__global__ void __launch_bounds__(BLOCK) scatter_rows_kernel(const __grid_constant__ ScatterPlan plan) {
  extern __shared__ float sum[];
  const int length = (int)plan.index.length, picks = (int)plan.index.picks;
  for (int64_t row = blockIdx.x; row < plan.index.outer; row += gridDim.x) {
    Scalar *x = static_cast<Scalar *>(plan.x) + row * length;
    for (int i = threadIdx.x * N; i < length; i += BLOCK * N) {
      float value[N];
      load_as<Scalar>(x, i, value);
#pragma unroll
      for (int n = 0; n < N; n++) sum[i + n] = value[n];
    }
    __syncthreads();
    const Index *index = static_cast<const Index *>(plan.index.index) + row * picks;
    const Scalar *source = static_cast<const Scalar *>(plan.source) + row * picks;
    for (int first = threadIdx.x; first < picks; first += BLOCK * AT_ONCE) {
      Index to[AT_ONCE];
      Scalar value[AT_ONCE];
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        if (first + k * BLOCK >= picks) break;
        to[k] = index[first + k * BLOCK];
        value[k] = source[first + k * BLOCK];
      }
#pragma unroll
      for (int k = 0; k < AT_ONCE; k++) {
        if (first + k * BLOCK >= picks) break;
        const int64_t place = to[k];
        if (place >= 0 && place < length) {
          atomicAdd(&sum[place], to_float(value[k]));
        } else {
          report_fault(plan.index.fault, FAULT_SCATTER, place);
        }
      }
    }
    __syncthreads();
    for (int i = threadIdx.x * N; i < length; i += BLOCK * N) {
      float value[N];
#pragma unroll
      for (int n = 0; n < N; n++) value[n] = sum[i + n];
      store_as<Scalar>(x, i, value);
    }
    __syncthreads(); /* before the next row is read */
  }
}

} // namespace

extern "C" cudaError_t launch_scatter_rows(Launch launch, const ScatterPlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    constexpr int N = vector_width<Scalar>;
    const bool vectors = plan->index.length % N == 0 && on_vector(plan->x);
    return with_integer(plan->index.index_dtype, [&](auto index) {
      using Index = decltype(index);
      const auto kernel = vectors ? scatter_rows_kernel<Scalar, Index, N> : scatter_rows_kernel<Scalar, Index, 1>;
      kernel<<<grid_size(launch, plan->index.outer, 1, 64), BLOCK, plan->index.length * sizeof(float), launch.stream>>>(
          *plan);
      return cudaGetLastError();
    });
  });
}
