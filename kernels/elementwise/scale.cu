/* x = x · factor, one number on the device; where that is 1 nothing is read. */
#include "elementwise/elementwise.h"
#include "vectors.cuh"

namespace {

enum { BLOCK = 256 };

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) scale_kernel(void *x, int64_t vectors, int64_t count, const float *factor) {
  constexpr int width = vector_width<Scalar>;
  const float by = *factor;
  if (by == 1.0f) return;
  const int64_t first = (int64_t)blockIdx.x * BLOCK + threadIdx.x, step = (int64_t)gridDim.x * BLOCK;
  uint4 *data = static_cast<uint4 *>(x);
  for (int64_t i = first; i < vectors; i += step) {
    float value[width];
    unpack<Scalar>(data[i], value);
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= by;
    data[i] = pack<Scalar>(value);
  }
  for (int64_t i = vectors * width + first; i < count; i += step) {
    float value[1];
    load_as<Scalar>(x, i, value);
    value[0] *= by;
    store_as<Scalar>(x, i, value);
  }
}

} // namespace

extern "C" cudaError_t launch_scale(Launch launch, void *x, DType dtype, int64_t count, const float *factor) {
  if (count == 0) return cudaSuccess;
  with_scalar(dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const int64_t vectors = (uintptr_t)x % sizeof(uint4) == 0 ? count / vector_width<Scalar> : 0;
    const int grid = grid_size(launch, vectors > 0 ? vectors : count, BLOCK, 8);
    scale_kernel<Scalar><<<grid, BLOCK, 0, launch.stream>>>(x, vectors, count, factor);
  });
  return cudaGetLastError();
}
