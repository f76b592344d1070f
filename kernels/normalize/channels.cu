/* Batch normalization of (images, channels, elements): out = (x - mean) · inverse · weight + bias with the statistics of each
 * channel, and its gradients. Each channel is cut into parts, a thread block each, in two kernels: the first leaves sums of
 * the parts, the second adds them up, in one order, and computes the part's results. It goes the other way, as what was read
 * last is still in the cache. */
#include "core/operations.h"

#include "normalize/normalize.cuh"

namespace {

enum { BLOCK = ROWS_BLOCK, IN_FLIGHT = 4 };

/* What a thread takes at once: a vector of 16 bytes, or an element of any dtype. */
template <typename Scalar> struct Vectors {
  static constexpr int width = vector_width<Scalar>;
  using Raw = uint4;
  static __device__ Raw read(const void *data, DType, int64_t i) { return static_cast<const uint4 *>(data)[i]; }
  static __device__ void open(const Raw &raw, float (&value)[width]) { unpack<Scalar>(raw, value); }
  static __device__ void write(void *data, DType, int64_t i, const float (&value)[width]) {
    static_cast<uint4 *>(data)[i] = pack<Scalar>(value);
  }
};

struct Elements {
  static constexpr int width = 1;
  using Raw = float;
  static __device__ Raw read(const void *data, DType dtype, int64_t i) { return load_float(data, dtype, i); }
  static __device__ void open(const Raw &raw, float (&value)[1]) { value[0] = raw; }
  static __device__ void write(void *data, DType dtype, int64_t i, const float (&value)[1]) {
    store_float(data, dtype, i, value[0]);
  }
};

/* Of a channel: forward, of the differences from its origin and of their squares; backward, of dy and of dy · n, where n is
 * x normalized. */
struct ChannelSums {
  double first, second;
};

__device__ inline ChannelSums shuffle_xor(ChannelSums sums, int mask) {
  return {::shuffle_xor(sums.first, mask), ::shuffle_xor(sums.second, mask)};
}

__device__ inline ChannelSums sum_of_block(ChannelSums sums) {
  return combine_across<BLOCK>(sums, [](ChannelSums a, ChannelSums b) {
    return ChannelSums{a.first + b.first, a.second + b.second};
  });
}

/* The first element, unless a difference from it would be no number. */
__device__ inline float origin_of(const ChannelsPlan &plan, int64_t channel) {
  if (plan.images * plan.elements == 0) return 0.0f;
  const float first = load_float(plan.x, plan.dtype, channel * plan.elements);
  return fabsf(first) < INFINITY ? first : 0.0f;
}

/* Calls f(at, x, dy) for what the threads of a thread block take of part `split`, which is at `at`. */
template <typename Access, bool BACKWARD, typename F>
__device__ inline void for_each_taken(const ChannelsPlan &plan, int64_t channel, int64_t split, F f) {
  constexpr int width = Access::width;
  const int64_t run = plan.elements / width, all = plan.images * run, chunk = plan.chunk / width;
  const int64_t begin = split * chunk, end = begin + chunk < all ? begin + chunk : all;
  for (int64_t first = begin + threadIdx.x; first < end; first += BLOCK * IN_FLIGHT) {
    typename Access::Raw raw_x[IN_FLIGHT], raw_dy[IN_FLIGHT];
    int64_t at[IN_FLIGHT];
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      const int64_t i = first + v * BLOCK;
      if (i >= end) continue;
      const int64_t image = divide(i, run);
      at[v] = (image * plan.channels + channel) * run + i - image * run;
      raw_x[v] = Access::read(plan.x, plan.dtype, at[v]);
      if (BACKWARD) raw_dy[v] = Access::read(plan.dy, plan.dy_dtype, at[v]);
    }
#pragma unroll
    for (int v = 0; v < IN_FLIGHT; v++) {
      if (first + v * BLOCK >= end) continue;
      float x[width], dy[width];
      Access::open(raw_x[v], x);
      if (BACKWARD) Access::open(raw_dy[v], dy);
      f(at[v], x, dy);
    }
  }
}

template <typename Access, bool BACKWARD>
__global__ void __launch_bounds__(BLOCK) channel_sums_kernel(const __grid_constant__ ChannelsPlan plan) {
  constexpr int width = Access::width;
  const int64_t channel = blockIdx.x / plan.splits, split = blockIdx.x % plan.splits;
  const double origin = BACKWARD ? 0.0 : (double)origin_of(plan, channel);
  const RowMean mean = BACKWARD ? kept_mean(plan.mean, channel) : RowMean{0.0f, 0.0f};
  const float inverse = BACKWARD ? plan.inverse[channel] : 0.0f;
  ChannelSums sums = {0, 0};
  for_each_taken<Access, BACKWARD>(plan, channel, split, [&](int64_t, float(&x)[width], float(&dy)[width]) {
#pragma unroll
    for (int k = 0; k < width; k++) {
      if (BACKWARD) {
        sums.first += dy[k];
        sums.second += dy[k] * normalized_value(x[k], mean, inverse);
      } else {
        const double difference = (double)x[k] - origin;
        sums.first += difference;
        sums.second += difference * difference;
      }
    }
  });
  sums = sum_of_block(sums);
  if (threadIdx.x == 0) static_cast<ChannelSums *>(plan.partials)[blockIdx.x] = sums;
}

/* The sums over all parts of a channel, of which there are at most as many as threads. */
__device__ inline ChannelSums total_of(const ChannelsPlan &plan, int64_t channel) {
  ChannelSums sums = {0, 0};
  if (threadIdx.x < plan.splits) {
    sums = static_cast<const ChannelSums *>(plan.partials)[channel * plan.splits + threadIdx.x];
  }
  return sum_of_block(sums);
}

template <typename Access>
__global__ void __launch_bounds__(BLOCK) normalize_channels_kernel(const __grid_constant__ ChannelsPlan plan) {
  constexpr int width = Access::width;
  const int64_t task = gridDim.x - 1 - blockIdx.x, channel = task / plan.splits, split = task % plan.splits;
  const ChannelSums total = total_of(plan, channel);
  const int64_t count = plan.images * plan.elements;
  const RowMean mean = row_mean_of((double)origin_of(plan, channel) + total.first / (double)count);
  const double variance = variance_of(total.first, total.second, count, 0);
  const float inverse = (float)(1 / sqrt(variance + plan.epsilon));
  if (split == 0 && threadIdx.x == 0) {
    plan.mean[2 * channel] = mean.rounded;
    plan.mean[2 * channel + 1] = mean.rest;
    plan.inverse[channel] = inverse;
    plan.variance[channel] = (float)variance;
  }
  const float weight = load_parameter(plan.weight, channel, 1.0f), bias = load_parameter(plan.bias, channel, 0.0f);
  for_each_taken<Access, false>(plan, channel, split, [&](int64_t at, float(&x)[width], float(&)[width]) {
#pragma unroll
    for (int k = 0; k < width; k++) x[k] = normalized_value(x[k], mean, inverse) * weight + bias;
    Access::write(plan.out, plan.dtype, at, x);
  });
}

template <typename Access>
__global__ void __launch_bounds__(BLOCK) normalize_channels_backward_kernel(const __grid_constant__ ChannelsPlan plan) {
  constexpr int width = Access::width;
  const int64_t task = gridDim.x - 1 - blockIdx.x, channel = task / plan.splits, split = task % plan.splits;
  if (!plan.out && split > 0) return;
  const ChannelSums total = total_of(plan, channel);
  if (split == 0 && threadIdx.x == 0) {
    if (plan.weight_grad.data) store_double(plan.weight_grad.data, plan.weight_grad.dtype, channel, total.second);
    if (plan.bias_grad.data) store_double(plan.bias_grad.data, plan.bias_grad.dtype, channel, total.first);
  }
  if (!plan.out) return;
  const double count = (double)(plan.images * plan.elements);
  const float mean_dy = (float)(total.first / count), mean_product = (float)(total.second / count);
  const RowMean mean = kept_mean(plan.mean, channel);
  const float inverse = plan.inverse[channel], factor = inverse * load_parameter(plan.weight, channel, 1.0f);
  for_each_taken<Access, true>(plan, channel, split, [&](int64_t at, float(&x)[width], float(&dy)[width]) {
#pragma unroll
    for (int k = 0; k < width; k++) {
      x[k] = factor * (dy[k] - mean_dy - normalized_value(x[k], mean, inverse) * mean_product);
    }
    Access::write(plan.out, plan.dtype, at, x);
  });
}

template <typename Access> cudaError_t launch(Launch launch, const ChannelsPlan &plan) {
  const int grid = (int)(plan.channels * plan.splits);
  if (plan.dy) {
    channel_sums_kernel<Access, true><<<grid, BLOCK, 0, launch.stream>>>(plan);
    normalize_channels_backward_kernel<Access><<<grid, BLOCK, 0, launch.stream>>>(plan);
  } else {
    channel_sums_kernel<Access, false><<<grid, BLOCK, 0, launch.stream>>>(plan);
    normalize_channels_kernel<Access><<<grid, BLOCK, 0, launch.stream>>>(plan);
  }
  return cudaGetLastError();
}

} // namespace

extern "C" void channels_shape(ChannelsPlan *plan, int multiprocessors) {
  enum { BLOCKS_EACH = 16, CHUNK = 2048, WIDEST = 8 };
  plan->vectorize = vectors_in_row(plan->dtype, plan->elements) > 0 && on_vector(plan->x) && on_vector(plan->out) &&
                    (!plan->dy || (plan->dy_dtype == plan->dtype && on_vector(plan->dy)));
  const int64_t count = plan->images * plan->elements;
  int64_t splits = (int64_t)multiprocessors * BLOCKS_EACH / plan->channels, most = divide_up(count, CHUNK);
  splits = splits < most ? splits : most;
  splits = splits < BLOCK ? splits : (int64_t)BLOCK;
  splits = splits > 1 ? splits : 1;
  plan->chunk = divide_up(divide_up(count, splits), WIDEST) * WIDEST;
  plan->splits = count > 0 ? divide_up(count, plan->chunk) : 1;
}

extern "C" cudaError_t launch_channels(Launch given, const ChannelsPlan *plan) {
  if (!plan->vectorize) return launch<Elements>(given, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) { return launch<Vectors<decltype(scalar)>>(given, *plan); });
}
