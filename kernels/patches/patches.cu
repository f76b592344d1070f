/* Patches of images (unfold) in both layouts, and their sums (fold). */
#include "common.cuh"
#include "patches/patches.h"

namespace {

enum { BLOCK = 256, TILE = 32, TILE_ROWS = 8 };

/* What the first element of a window's kernel meets: a place that may be in the padding. */
struct Corner {
  int y, x;
  int64_t origin; /* of channel 0, in x */
};

/* Of patch `position`, of all images. */
__device__ inline Corner corner_of(const PatchesPlan &plan, int64_t position) {
  const WindowAxis &y = plan.window.y, &x = plan.window.x;
  const int64_t row = divide(position, x.output), image = divide(row, y.output);
  const int top = (int)((row - image * y.output) * y.stride - y.before);
  const int left = (int)((position - row * x.output) * x.stride - x.before);
  return {top, left, image * plan.channels * y.input * x.input + top * x.input + left};
}

/* An element of the kernel, with its channel: how far it is from the window's first one. */
struct KernelElement {
  int64_t channel;
  int i, j; /* in the kernel */
  int y, x; /* in positions */
  int64_t offset;
};

__device__ inline KernelElement kernel_element(const PatchesPlan &plan, int64_t number) {
  const WindowAxis &y = plan.window.y, &x = plan.window.x;
  KernelElement element;
  const int64_t line = divide(number, x.kernel);
  element.channel = divide(line, y.kernel);
  element.i = (int)(line - element.channel * y.kernel);
  element.j = (int)(number - line * x.kernel);
  element.y = (int)(element.i * y.dilation);
  element.x = (int)(element.j * x.dilation);
  element.offset = (element.channel * y.input + element.y) * x.input + element.x;
  return element;
}

template <typename Word>
__device__ inline Word element_of(const Word *x, const PatchesPlan &plan, const Corner &corner,
                                  const KernelElement &element) {
  const bool inside = (unsigned)(corner.y + element.y) < (unsigned)plan.window.y.input &&
                      (unsigned)(corner.x + element.x) < (unsigned)plan.window.x.input;
  return inside ? x[corner.origin + element.offset] : Word{};
}

/* Threads take N neighbouring patches, and some elements of them all. `together`: the patches of all images lie side by
 * side. `aligned`: the rows of patches begin at multiples of N. */
template <typename Word, int N>
__global__ void __launch_bounds__(BLOCK)
    unfold_kernel(Word *out, const Word *x, bool together, bool aligned, const __grid_constant__ PatchesPlan plan) {
  const int64_t each = plan.window.y.output * plan.window.x.output;
  const int64_t columns = together ? plan.images * each : each;
  const int64_t length = plan.channels * plan.window.y.kernel * plan.window.x.kernel;
  const int64_t rows = together ? length : plan.images * length;
  const int64_t image_size = plan.channels * plan.window.y.input * plan.window.x.input;
  for (int64_t group = global_thread(); group * N < columns; group += global_threads()) {
    const int64_t first = group * N;
    Corner corner[N];
#pragma unroll
    for (int k = 0; k < N; k++) corner[k] = corner_of(plan, first + k < columns ? first + k : first);
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
      const int64_t image = together ? 0 : divide(row, length);
      const KernelElement element = kernel_element(plan, row - image * length);
      const Word *from = x + image * image_size;
      Packed<Word, N> packed;
#pragma unroll
      for (int k = 0; k < N; k++) packed.element[k] = element_of(from, plan, corner[k], element);
      Word *to = out + image * plan.stride[0] + element.channel * plan.stride[1] + element.i * plan.stride[2] +
                 element.j * plan.stride[3] + first;
      if (aligned && first + N <= columns) {
        *reinterpret_cast<Packed<Word, N> *>(to) = packed;
      } else {
#pragma unroll
        for (int k = 0; k < N; k++) {
          if (first + k < columns) to[k] = packed.element[k];
        }
      }
    }
  }
}

/* Tiles of patches by elements: read with neighbouring patches in neighbouring lanes, written with neighbouring
 * elements. */
template <typename Word>
__global__ void __launch_bounds__(TILE *TILE_ROWS)
    unfold_rows_kernel(Word *out, const Word *x, const __grid_constant__ PatchesPlan plan) {
  __shared__ Word tile[TILE][TILE + 1];
  const WindowAxis &y = plan.window.y, &x_axis = plan.window.x;
  const int64_t patches = plan.images * y.output * x_axis.output;
  const int64_t length = plan.channels * y.kernel * x_axis.kernel;
  const int64_t tiles = divide_up(length, TILE), count = divide_up(patches, TILE) * tiles;
  for (int64_t task = blockIdx.x; task < count; task += gridDim.x) {
    const int64_t across = divide(task, tiles);
    const int64_t first_patch = across * TILE, first_element = (task - across * tiles) * TILE;
    const int64_t patch = first_patch + threadIdx.x;
    if (patch < patches) {
      const Corner corner = corner_of(plan, patch);
      for (int r = threadIdx.y; r < TILE && first_element + r < length; r += TILE_ROWS) {
        tile[r][threadIdx.x] = element_of(x, plan, corner, kernel_element(plan, first_element + r));
      }
    }
    __syncthreads();
    const int64_t element = first_element + threadIdx.x;
    for (int r = threadIdx.y; r < TILE && first_patch + r < patches; r += TILE_ROWS) {
      const int64_t row = divide(first_patch + r, x_axis.output), image = divide(row, y.output);
      const int64_t to = image * plan.stride[0] + (row - image * y.output) * plan.stride[4] +
                         (first_patch + r - row * x_axis.output) * plan.stride[5];
      if (element < length) out[to + element] = tile[threadIdx.x][r];
    }
    __syncthreads(); /* before the next tile is written */
  }
}

/* The window of which element k of the kernel meets a position, or -1. */
__device__ inline int64_t window_at(const WindowAxis &axis, int64_t position, int64_t k) {
  const int64_t distance = position + axis.before - k * axis.dilation;
  if (distance < 0) return -1;
  const int64_t window = axis.stride == 1 ? distance : divide(distance, axis.stride);
  return window * axis.stride == distance && window < axis.output ? window : -1;
}

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK)
    fold_kernel(Scalar *out, const Scalar *patches, const __grid_constant__ PatchesPlan plan) {
  const WindowAxis &y_axis = plan.window.y, &x_axis = plan.window.x;
  const int64_t count = plan.images * plan.channels * y_axis.input * x_axis.input;
  for (int64_t to = global_thread(); to < count; to += global_threads()) {
    const int64_t row = divide(to, x_axis.input), plane = divide(row, y_axis.input);
    const int64_t image = divide(plane, plan.channels);
    const int64_t x = to - row * x_axis.input, y = row - plane * y_axis.input;
    const Scalar *from = patches + image * plan.stride[0] + (plane - image * plan.channels) * plan.stride[1];
    float sum = 0;
    for (int64_t i = 0; i < y_axis.kernel; i++) {
      const int64_t oy = window_at(y_axis, y, i);
      if (oy < 0) continue;
      for (int64_t j = 0; j < x_axis.kernel; j++) {
        const int64_t ox = window_at(x_axis, x, j);
        if (ox < 0) continue;
        sum += to_float(from[i * plan.stride[2] + j * plan.stride[3] + oy * plan.stride[4] + ox]);
      }
    }
    from_float(sum, true, out[to]);
  }
}

template <typename Word> cudaError_t unfold(Launch launch, void *out, const void *x, const PatchesPlan *plan) {
  constexpr int N = sizeof(Word) < 2 ? 8 : 16 / sizeof(Word);
  const WindowAxis *y_axis = &plan->window.y, *x_axis = &plan->window.x;
  const int64_t each = y_axis->output * x_axis->output;
  const bool together = plan->stride[0] == each || plan->images == 1;
  const int64_t columns = together ? plan->images * each : each;
  const int64_t rows = plan->channels * y_axis->kernel * x_axis->kernel * (together ? 1 : plan->images);
  bool aligned = (uintptr_t)out % (N * sizeof(Word)) == 0;
  for (int d = together ? 1 : 0; d < 4; d++) aligned = aligned && plan->stride[d] % N == 0;
  const int64_t blocks = divide_up(divide_up(columns, (int64_t)N), (int64_t)BLOCK);
  const int64_t most = (int64_t)launch.multiprocessors * 32;
  const int across = (int)(blocks < most ? blocks : most);
  int64_t down = divide_up(most, (int64_t)across);
  if (down > rows) down = rows;
  if (down > 65535) down = 65535;
  unfold_kernel<Word, N><<<dim3(across, (unsigned)down), BLOCK, 0, launch.stream>>>(
      static_cast<Word *>(out), static_cast<const Word *>(x), together, aligned, *plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_unfold(Launch launch, void *out, const void *x, int word_bytes, const PatchesPlan *plan) {
  return with_word(word_bytes, [&](auto word) { return unfold<decltype(word)>(launch, out, x, plan); });
}

extern "C" cudaError_t launch_unfold_rows(Launch launch, void *out, const void *x, int word_bytes,
                                          const PatchesPlan *plan) {
  const int64_t patches = plan->images * plan->window.y.output * plan->window.x.output;
  const int64_t length = plan->channels * plan->window.y.kernel * plan->window.x.kernel;
  const int grid = grid_size(launch, divide_up(patches, (int64_t)TILE) * divide_up(length, (int64_t)TILE), 1, 64);
  return with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    unfold_rows_kernel<Word><<<grid, dim3(TILE, TILE_ROWS), 0, launch.stream>>>(static_cast<Word *>(out),
                                                                                static_cast<const Word *>(x), *plan);
    return cudaGetLastError();
  });
}

extern "C" cudaError_t launch_fold(Launch launch, void *out, const void *patches, DType dtype,
                                   const PatchesPlan *plan) {
  const int64_t count = plan->images * plan->channels * plan->window.y.input * plan->window.x.input;
  const int grid = grid_size(launch, count, BLOCK, 64);
  return with_scalar(dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    fold_kernel<Scalar>
        <<<grid, BLOCK, 0, launch.stream>>>(static_cast<Scalar *>(out), static_cast<const Scalar *>(patches), *plan);
    return cudaGetLastError();
  });
}
