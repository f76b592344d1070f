/* Patches of images (unfold) in both layouts, and their sums (fold). Neighbouring lanes read and write neighbouring
 * elements, and each thread has several on their way at once. */
#include "common.cuh"
#include "patches/divider.cuh"
#include "patches/patches.h"

namespace {

enum { BLOCK = 256, EACH = 4, TILE_ROWS = 8 };

/* The side of a tile in shared memory, of which a thread block has 48 KiB. */
template <typename Word> constexpr int tile_side = sizeof(Word) > 8 ? 32 : 64;

/* One dimension, in numbers that fit in 32 bits (core/window.h), and what the kernels divide by. */
struct Axis {
  int input, output, kernel, stride, dilation, before;
  Divider by_input, by_output, by_kernel, by_stride;

  explicit Axis(const WindowAxis &axis)
      : input((int)axis.input), output((int)axis.output), kernel((int)axis.kernel), stride((int)axis.stride),
        dilation((int)axis.dilation), before((int)axis.before), by_input(axis.input), by_output(axis.output),
        by_kernel(axis.kernel), by_stride(axis.stride) {}
};

struct Job {
  Axis y, x;
  int64_t images, channels;
  Divider by_channels;
  int64_t stride[6];

  explicit Job(const PatchesPlan &plan)
      : y(plan.window.y), x(plan.window.x), images(plan.images), channels(plan.channels), by_channels(plan.channels) {
    for (int d = 0; d < 6; d++) stride[d] = plan.stride[d];
  }
};

/* What the first element of a window's kernel meets: a place that may be in the padding. */
struct Corner {
  int y, x;
  int64_t origin; /* of channel 0 */
};

/* Of patch `position` of all images. */
__device__ inline Corner corner_of(const Job &job, int64_t position) {
  const int64_t row = job.x.by_output(position), image = job.y.by_output(row);
  const int top = (int)(row - image * job.y.output) * job.y.stride - job.y.before;
  const int left = (int)(position - row * job.x.output) * job.x.stride - job.x.before;
  return {top, left, (image * job.channels * job.y.input + top) * job.x.input + left};
}

/* Thread blocks take BLOCK · EACH patches, and channels in turn. `together`: the patches of all images lie side by side;
 * else blocks take a channel of an image. */
template <typename Word>
__global__ void __launch_bounds__(BLOCK)
    unfold_kernel(Word *out, const Word *x, bool together, const __grid_constant__ Job job) {
  const int64_t image_patches = (int64_t)job.y.output * job.x.output;
  const int64_t columns = together ? job.images * image_patches : image_patches;
  const int64_t planes = together ? job.channels : job.images * job.channels;
  const int64_t plane_size = (int64_t)job.y.input * job.x.input;
  for (int64_t first = (int64_t)blockIdx.x * (BLOCK * EACH); first < columns;
       first += (int64_t)gridDim.x * BLOCK * EACH) {
    Corner corner[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      const int64_t column = first + k * BLOCK + threadIdx.x;
      corner[k] = corner_of(job, column < columns ? column : first);
      if (column >= columns) corner[k].y = INT32_MIN; /* never meets anything, and is not written */
    }
    for (int64_t plane = blockIdx.y; plane < planes; plane += gridDim.y) {
      const int64_t image = together ? 0 : job.by_channels(plane), channel = plane - image * job.channels;
      const Word *from = x + plane * plane_size;
      for (int i = 0; i < job.y.kernel; i++) {
        Word *to = out + image * job.stride[0] + channel * job.stride[1] + i * job.stride[2] + first + threadIdx.x;
        const int down = i * job.y.dilation;
#pragma unroll 3
        for (int j = 0; j < job.x.kernel; j++, to += job.stride[3]) {
          const int right = j * job.x.dilation;
          const int64_t offset = (int64_t)down * job.x.input + right;
          Word value[EACH];
#pragma unroll
          for (int k = 0; k < EACH; k++) {
            const bool meets = (unsigned)(corner[k].y + down) < (unsigned)job.y.input &&
                               (unsigned)(corner[k].x + right) < (unsigned)job.x.input;
            value[k] = meets ? from[corner[k].origin + offset] : Word{};
          }
#pragma unroll
          for (int k = 0; k < EACH; k++) {
            if (corner[k].y != INT32_MIN) to[k * BLOCK] = value[k];
          }
        }
      }
    }
  }
}

/* Tiles of patches by elements: read with neighbouring patches in neighbouring lanes, written with neighbouring
 * elements. */
template <typename Word>
__global__ void __launch_bounds__(WARP *TILE_ROWS)
    unfold_rows_kernel(Word *out, const Word *x, const __grid_constant__ Job job) {
  constexpr int side = tile_side<Word>;
  __shared__ Word tile[side][side + 1];
  const int64_t patches = job.images * job.y.output * job.x.output;
  const int64_t length = job.channels * job.y.kernel * job.x.kernel;
  const int64_t tiles = divide_up(length, (int64_t)side), count = divide_up(patches, (int64_t)side) * tiles;
  for (int64_t task = blockIdx.x; task < count; task += gridDim.x) {
    const int64_t across = divide(task, tiles);
    const int64_t first_patch = across * side, first_element = (task - across * tiles) * side;
    Corner corner[side / WARP];
#pragma unroll
    for (int k = 0; k < side / WARP; k++) {
      const int64_t patch = first_patch + k * WARP + threadIdx.x;
      corner[k] = corner_of(job, patch < patches ? patch : first_patch);
    }
#pragma unroll 4
    for (int r = threadIdx.y; r < side; r += TILE_ROWS) {
      const int64_t element = first_element + r < length ? first_element + r : first_element;
      const int64_t line = job.x.by_kernel(element), channel = job.y.by_kernel(line);
      const int down = (int)(line - channel * job.y.kernel) * job.y.dilation;
      const int right = (int)(element - line * job.x.kernel) * job.x.dilation;
      const Word *from = x + (channel * job.y.input + down) * job.x.input + right;
#pragma unroll
      for (int k = 0; k < side / WARP; k++) {
        const bool meets = (unsigned)(corner[k].y + down) < (unsigned)job.y.input &&
                           (unsigned)(corner[k].x + right) < (unsigned)job.x.input;
        tile[r][k * WARP + threadIdx.x] = meets ? from[corner[k].origin] : Word{};
      }
    }
    __syncthreads();
    for (int r = threadIdx.y; r < side && first_patch + r < patches; r += TILE_ROWS) {
      const int64_t row = job.x.by_output(first_patch + r), image = job.y.by_output(row);
      Word *to = out + image * job.stride[0] + (row - image * job.y.output) * job.stride[4] +
                 (first_patch + r - row * job.x.output) * job.stride[5] + first_element;
#pragma unroll
      for (int k = threadIdx.x; k < side; k += WARP) {
        if (first_element + k < length) to[k] = tile[k][r];
      }
    }
    __syncthreads(); /* before the next tile is written */
  }
}

/* The window of which element k of the kernel meets a position; -1 if there is none. */
template <bool STEPS> __device__ inline int window_at(const Axis &axis, int position, int k) {
  const int distance = position + axis.before - k * axis.dilation;
  if (distance < 0) return -1;
  const int window = STEPS ? (int)axis.by_stride(distance) : distance;
  if (STEPS && window * axis.stride != distance) return -1;
  return window < axis.output ? window : -1;
}

/* STEPS: some stride is not 1. */
template <typename Scalar, bool STEPS>
__global__ void __launch_bounds__(BLOCK)
    fold_kernel(Scalar *out, const Scalar *patches, const __grid_constant__ Job job) {
  const int64_t count = job.images * job.channels * job.y.input * job.x.input;
  for (int64_t first = (int64_t)blockIdx.x * (BLOCK * EACH); first < count;
       first += (int64_t)gridDim.x * BLOCK * EACH) {
    int y[EACH], x[EACH];
    const Scalar *from[EACH];
    float sum[EACH] = {0};
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      int64_t to = first + k * BLOCK + threadIdx.x;
      if (to >= count) to = first;
      const int64_t row = job.x.by_input(to), plane = job.y.by_input(row), image = job.by_channels(plane);
      x[k] = (int)(to - row * job.x.input);
      y[k] = (int)(row - plane * job.y.input);
      from[k] = patches + image * job.stride[0] + (plane - image * job.channels) * job.stride[1];
    }
    for (int i = 0; i < job.y.kernel; i++) {
      int64_t line[EACH];
#pragma unroll
      for (int k = 0; k < EACH; k++) {
        const int window = window_at<STEPS>(job.y, y[k], i);
        line[k] = window < 0 ? -1 : i * job.stride[2] + window * job.stride[4];
      }
#pragma unroll 3
      for (int j = 0; j < job.x.kernel; j++) {
#pragma unroll
        for (int k = 0; k < EACH; k++) {
          const int window = window_at<STEPS>(job.x, x[k], j);
          if (line[k] >= 0 && window >= 0) sum[k] += to_float(from[k][line[k] + j * job.stride[3] + window]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      const int64_t to = first + k * BLOCK + threadIdx.x;
      if (to < count) from_float(sum[k], true, out[to]);
    }
  }
}

template <typename Word> cudaError_t unfold(Launch launch, Word *out, const Word *x, const PatchesPlan &plan) {
  const int64_t image_patches = plan.window.y.output * plan.window.x.output;
  const bool together = plan.stride[0] == image_patches || plan.images == 1;
  const int64_t columns = together ? plan.images * image_patches : image_patches;
  const int64_t planes = together ? plan.channels : plan.images * plan.channels;
  const int across = grid_size(launch, columns, BLOCK * EACH, 16);
  int64_t down = divide_up((int64_t)launch.multiprocessors * 32, (int64_t)across);
  if (down > planes) down = planes;
  if (down > UINT16_MAX) down = UINT16_MAX;
  unfold_kernel<Word><<<dim3(across, (unsigned)down), BLOCK, 0, launch.stream>>>(out, x, together, Job(plan));
  return cudaGetLastError();
}

template <typename Word> cudaError_t unfold_rows(Launch launch, Word *out, const Word *x, const PatchesPlan &plan) {
  const int64_t patches = plan.images * plan.window.y.output * plan.window.x.output;
  const int64_t length = plan.channels * plan.window.y.kernel * plan.window.x.kernel;
  constexpr int64_t side = tile_side<Word>;
  const int grid = grid_size(launch, divide_up(patches, side) * divide_up(length, side), 1, 64);
  unfold_rows_kernel<Word><<<grid, dim3(WARP, TILE_ROWS), 0, launch.stream>>>(out, x, Job(plan));
  return cudaGetLastError();
}

template <typename Scalar>
cudaError_t fold(Launch launch, Scalar *out, const Scalar *patches, const PatchesPlan &plan) {
  const int64_t count = plan.images * plan.channels * plan.window.y.input * plan.window.x.input;
  const bool steps = plan.window.y.stride != 1 || plan.window.x.stride != 1;
  const auto kernel = steps ? fold_kernel<Scalar, true> : fold_kernel<Scalar, false>;
  kernel<<<grid_size(launch, count, BLOCK * EACH, 64), BLOCK, 0, launch.stream>>>(out, patches, Job(plan));
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_unfold(Launch launch, void *out, const void *x, int word_bytes, const PatchesPlan *plan) {
  return with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    return unfold(launch, static_cast<Word *>(out), static_cast<const Word *>(x), *plan);
  });
}

extern "C" cudaError_t launch_unfold_rows(Launch launch, void *out, const void *x, int word_bytes,
                                          const PatchesPlan *plan) {
  return with_word(word_bytes, [&](auto word) {
    using Word = decltype(word);
    return unfold_rows(launch, static_cast<Word *>(out), static_cast<const Word *>(x), *plan);
  });
}

extern "C" cudaError_t launch_fold(Launch launch, void *out, const void *patches, DType dtype,
                                   const PatchesPlan *plan) {
  return with_scalar(dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return fold(launch, static_cast<Scalar *>(out), static_cast<const Scalar *>(patches), *plan);
  });
}
