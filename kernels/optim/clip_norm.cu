/* The 2-norm over a list of tensors, and scaling them down to a largest one.
 *
 * Squares add up in float32 within a tile and in float64 over tiles, in the same order every time; within a tile too,
 * from a second reading, where a float32 one overflows or may vanish. The norm reads every
 * element once; scaling reads and writes them once more, unless the norm is small enough. */
#include "core/optim.h"

#include "optim/tensor_list.cuh"

namespace {

/* The sum of a tile's squares in float64, by the whole thread block; `bits` are those of the thread's elements. */
__device__ inline double exact_squares(const ListedTensor &tensor, const ListTile &tile, unsigned bits) {
  bits = combine_across<LIST_BLOCK>(bits, [](unsigned a, unsigned b) { return a | b; });
  if ((bits & 0x7FFFFFFF) == 0) return 0.0;
  double sum = 0.0;
#pragma unroll 1
  for (int64_t i = tile.begin + threadIdx.x; i < tile.end; i += LIST_BLOCK) {
    const double value = (double)load_float(tensor.data, (DType)tensor.dtype, i);
    sum += value * value;
  }
  return combine_across<LIST_BLOCK>(sum, [](double a, double b) { return a + b; });
}

__global__ void __launch_bounds__(LIST_BLOCK)
    squares_kernel(const __grid_constant__ TensorList list, double *__restrict__ partials) {
  const ListTile tile = find_tile(list, blockIdx.x);
  const ListedTensor &tensor = list.tensor[tile.tensor];
  float sum = 0;
  unsigned bits = 0; /* of all elements: whether they are all 0 */
  with_scalar((DType)tensor.dtype, [&](auto element) {
    using T = decltype(element);
    walk_tile<16 / sizeof(T), 4>(tile, tensor.vectors, [&](auto width, int64_t i) {
      float value[decltype(width)::value];
      load_as<T>(tensor.data, i, value);
#pragma unroll
      for (int k = 0; k < decltype(width)::value; k++) {
        sum += value[k] * value[k];
        bits |= float_to_bits(value[k]);
      }
    });
  });
  sum = combine_across<LIST_BLOCK>(sum, [](float a, float b) { return a + b; });
  double exact = (double)sum;
  if (!(sum > 1e-30f && sum < INFINITY)) exact = exact_squares(tensor, tile, bits);
  if (threadIdx.x == 0) partials[blockIdx.x] = exact;
}

enum { NORM_BLOCK = 1024 };

__global__ void __launch_bounds__(NORM_BLOCK)
    norm_kernel(const double *partials, int64_t count, double *exact, float *norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += NORM_BLOCK) sum += partials[i];
  sum = combine_across<NORM_BLOCK>(sum, [](double a, double b) { return a + b; });
  if (threadIdx.x > 0) return;
  *exact = sqrt(sum);
  *norm = (float)*exact;
}

__global__ void __launch_bounds__(LIST_BLOCK)
    clip_kernel(const __grid_constant__ TensorList list, const double *norm, float largest) {
  const ClipFactors factors = clip_factors(*norm, largest);
  if (factors.second >= 1.0f) return;
  const ListTile tile = find_tile(list, blockIdx.x);
  const ListedTensor &tensor = list.tensor[tile.tensor];
  with_scalar((DType)tensor.dtype, [&](auto element) {
    using T = decltype(element);
    walk_tile<16 / sizeof(T), 1>(tile, tensor.vectors, [&](auto width, int64_t i) {
      float value[decltype(width)::value];
      load_as<T>(tensor.data, i, value);
#pragma unroll
      for (int k = 0; k < decltype(width)::value; k++) value[k] = value[k] * factors.first * factors.second;
      store_as<T>(tensor.data, i, value);
    });
  });
}

} // namespace

extern "C" cudaError_t launch_squares(Launch launch, const TensorList *list, double *partials) {
  if (list->tiles == 0) return cudaSuccess;
  squares_kernel<<<list->tiles, LIST_BLOCK, 0, launch.stream>>>(*list, partials);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_norm(Launch launch, const double *partials, int64_t count, double *exact, float *norm) {
  norm_kernel<<<1, NORM_BLOCK, 0, launch.stream>>>(partials, count, exact, norm);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_clip(Launch launch, const TensorList *list, const double *norm, float largest) {
  if (list->tiles == 0) return cudaSuccess;
  clip_kernel<<<list->tiles, LIST_BLOCK, 0, launch.stream>>>(*list, norm, largest);
  return cudaGetLastError();
}
