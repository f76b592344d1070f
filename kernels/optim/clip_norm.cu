/* The 2-norm over a list of tensors, and scaling them down to a largest one.
 *
 * Squares add up in float32 within a tile and in float64 over tiles, in the same order every time. The norm reads every
 * element once; scaling reads and writes them once more, unless the norm is small enough. */
#include "optim/tensor_list.cuh"

namespace {

__global__ void __launch_bounds__(LIST_BLOCK)
    squares_kernel(const __grid_constant__ TensorList list, float *__restrict__ partials) {
  const ListTile tile = find_tile(list, blockIdx.x);
  const ListedTensor &tensor = list.tensor[tile.tensor];
  float sum = 0;
  with_scalar((DType)tensor.dtype, [&](auto element) {
    using T = decltype(element);
    walk_tile<16 / sizeof(T), 4>(tile, tensor.vectors, [&](auto width, int64_t i) {
      float value[decltype(width)::value];
      load_as<T>(tensor.data, i, value);
#pragma unroll
      for (int k = 0; k < decltype(width)::value; k++) sum += value[k] * value[k];
    });
  });
  sum = combine_across<LIST_BLOCK>(sum, [](float a, float b) { return a + b; });
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

enum { NORM_BLOCK = 1024 };

__global__ void __launch_bounds__(NORM_BLOCK) norm_kernel(const float *partials, int64_t count, float *norm) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += NORM_BLOCK) sum += partials[i];
  sum = combine_across<NORM_BLOCK>(sum, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) *norm = (float)sqrt(sum);
}

__global__ void __launch_bounds__(LIST_BLOCK)
    clip_kernel(const __grid_constant__ TensorList list, const float *norm, float largest) {
  const float factor = largest / (*norm + 1e-6f);
  if (factor >= 1.0f) return;
  const ListTile tile = find_tile(list, blockIdx.x);
  const ListedTensor &tensor = list.tensor[tile.tensor];
  with_scalar((DType)tensor.dtype, [&](auto element) {
    using T = decltype(element);
    walk_tile<16 / sizeof(T), 1>(tile, tensor.vectors, [&](auto width, int64_t i) {
      float value[decltype(width)::value];
      load_as<T>(tensor.data, i, value);
#pragma unroll
      for (int k = 0; k < decltype(width)::value; k++) value[k] *= factor;
      store_as<T>(tensor.data, i, value);
    });
  });
}

} // namespace

extern "C" cudaError_t launch_squares(Launch launch, const TensorList *list, float *partials) {
  if (list->tiles == 0) return cudaSuccess;
  squares_kernel<<<list->tiles, LIST_BLOCK, 0, launch.stream>>>(*list, partials);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_norm(Launch launch, const float *partials, int64_t count, float *norm) {
  norm_kernel<<<1, NORM_BLOCK, 0, launch.stream>>>(partials, count, norm);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_clip(Launch launch, const TensorList *list, const float *norm, float largest) {
  if (list->tiles == 0) return cudaSuccess;
  clip_kernel<<<list->tiles, LIST_BLOCK, 0, launch.stream>>>(*list, norm, largest);
  return cudaGetLastError();
}
