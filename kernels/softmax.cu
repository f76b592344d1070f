/* Softmax, log-softmax and cross entropy over the rows of a contiguous matrix, and their derivatives. A warp takes a
 * short row, a thread block a long one; a row is read once for its maximum and sum, and once more for the result. */
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

/* sum = Σ exp(x - maximum) over the elements seen so far. */
struct LogSum {
  float maximum, sum;
};

__device__ inline LogSum shuffle_xor(LogSum value, int mask) {
  return {::shuffle_xor(value.maximum, mask), ::shuffle_xor(value.sum, mask)};
}

/* A NaN, or an infinity (whose x - x is NaN), reaches the sum and stays there; -inf adds nothing, even before anything
 * else was seen. */
__device__ inline void accept(LogSum &total, float x) {
  if (x == -INFINITY) return;
  if (x > total.maximum) {
    total.sum = total.sum * expf(total.maximum - x) + (1.0f + (x - x));
    total.maximum = x;
  } else {
    total.sum += expf(x - total.maximum);
  }
}

__device__ inline float rescaled(LogSum part, float maximum) {
  return part.maximum == maximum ? part.sum : part.sum * expf(part.maximum - maximum);
}

__device__ inline LogSum combine_log_sums(LogSum a, LogSum b) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  return {maximum, rescaled(a, maximum) + rescaled(b, maximum)};
}

template <int THREADS> __device__ inline LogSum row_log_sum(const Rows &x, int64_t begin, int lane) {
  LogSum total = {-INFINITY, 0.0f};
  for (int64_t i = lane; i < x.columns; i += THREADS) accept(total, load_float(x.data, x.dtype, begin + i));
  return combine_across<THREADS>(total, [](LogSum a, LogSum b) { return combine_log_sums(a, b); });
}

/* The loop of every kernel here: calls f(row, first element, lane) with THREADS threads together for each row. */
template <int THREADS, typename F> __device__ inline void for_each_row(const Rows &x, F f) {
  constexpr int groups = BLOCK / THREADS;
  int64_t row = (int64_t)blockIdx.x * groups + threadIdx.x / THREADS;
  for (; row < x.rows; row += (int64_t)gridDim.x * groups) f(row, row * x.columns, (int)(threadIdx.x % THREADS));
}

template <int THREADS> __global__ void __launch_bounds__(BLOCK) softmax_kernel(Rows out, Rows x, bool logarithm) {
  for_each_row<THREADS>(x, [&](int64_t, int64_t begin, int lane) {
    const LogSum total = row_log_sum<THREADS>(x, begin, lane);
    const float log_sum = logf(total.sum);
    for (int64_t i = lane; i < x.columns; i += THREADS) {
      const float shifted = load_float(x.data, x.dtype, begin + i) - total.maximum;
      store_float(out.data, out.dtype, begin + i, logarithm ? shifted - log_sum : expf(shifted) / total.sum);
    }
  });
}

/* softmax: dx = y · (dy - Σ dy · y); its logarithm: dx = dy - exp(y) · Σ dy. */
template <int THREADS>
__global__ void __launch_bounds__(BLOCK) softmax_backward_kernel(Rows dx, Rows dy, Rows y, bool logarithm) {
  for_each_row<THREADS>(y, [&](int64_t, int64_t begin, int lane) {
    float sum = 0.0f;
    for (int64_t i = lane; i < y.columns; i += THREADS) {
      const float grad = load_float(dy.data, dy.dtype, begin + i);
      sum += logarithm ? grad : grad * load_float(y.data, y.dtype, begin + i);
    }
    sum = combine_across<THREADS>(sum, [](float a, float b) { return a + b; });
    for (int64_t i = lane; i < y.columns; i += THREADS) {
      const float grad = load_float(dy.data, dy.dtype, begin + i), result = load_float(y.data, y.dtype, begin + i);
      store_float(dx.data, dx.dtype, begin + i, logarithm ? grad - expf(result) * sum : result * (grad - sum));
    }
  });
}

template <int THREADS>
__global__ void __launch_bounds__(BLOCK)
    cross_entropy_kernel(float *loss, Rows logits, const void *target, DType target_dtype, FaultWord *fault) {
  for_each_row<THREADS>(logits, [&](int64_t row, int64_t begin, int lane) {
    const LogSum total = row_log_sum<THREADS>(logits, begin, lane);
    if (lane != 0) return;
    const int64_t label = load_integer(target, target_dtype, row);
    if (label >= 0 && label < logits.columns) {
      loss[row] = logf(total.sum) - (load_float(logits.data, logits.dtype, begin + label) - total.maximum);
    } else {
      loss[row] = NAN;
      report_fault(fault, FAULT_CROSS_ENTROPY, label);
    }
  });
}

/* A row whose target is out of range gets no one subtracted. */
template <int THREADS>
__global__ void __launch_bounds__(BLOCK)
    cross_entropy_backward_kernel(Rows dlogits, Rows logits, const void *target, DType target_dtype, const float *dloss,
                                  int64_t dloss_stride, FaultWord *fault) {
  for_each_row<THREADS>(logits, [&](int64_t row, int64_t begin, int lane) {
    const LogSum total = row_log_sum<THREADS>(logits, begin, lane);
    const int64_t label = load_integer(target, target_dtype, row);
    const float grad = dloss[row * dloss_stride];
    if (lane == 0 && (label < 0 || label >= logits.columns)) report_fault(fault, FAULT_CROSS_ENTROPY, label);
    for (int64_t i = lane; i < logits.columns; i += THREADS) {
      const float probability = expf(load_float(logits.data, logits.dtype, begin + i) - total.maximum) / total.sum;
      store_float(dlogits.data, dlogits.dtype, begin + i, (probability - (i == label ? 1.0f : 0.0f)) * grad);
    }
  });
}

/* Rows up to this many columns are left to a warp. */
constexpr int64_t warp_columns = 1024;

bool short_rows(Rows x) { return x.columns <= warp_columns; }

int rows_grid(Launch launch, Rows x) { return grid_size(launch, x.rows, short_rows(x) ? BLOCK / WARP : 1, 64); }

} // namespace

extern "C" cudaError_t launch_softmax(Launch launch, Rows out, Rows x, bool logarithm) {
  if (x.rows == 0 || x.columns == 0) return cudaSuccess;
  const auto kernel = short_rows(x) ? softmax_kernel<WARP> : softmax_kernel<BLOCK>;
  kernel<<<rows_grid(launch, x), BLOCK, 0, launch.stream>>>(out, x, logarithm);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_softmax_backward(Launch launch, Rows dx, Rows dy, Rows y, bool logarithm) {
  if (y.rows == 0 || y.columns == 0) return cudaSuccess;
  const auto kernel = short_rows(y) ? softmax_backward_kernel<WARP> : softmax_backward_kernel<BLOCK>;
  kernel<<<rows_grid(launch, y), BLOCK, 0, launch.stream>>>(dx, dy, y, logarithm);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_cross_entropy(Launch launch, float *loss, Rows logits, const void *target,
                                            DType target_dtype, FaultWord *fault) {
  if (logits.rows == 0) return cudaSuccess;
  const auto kernel = short_rows(logits) ? cross_entropy_kernel<WARP> : cross_entropy_kernel<BLOCK>;
  kernel<<<rows_grid(launch, logits), BLOCK, 0, launch.stream>>>(loss, logits, target, target_dtype, fault);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_cross_entropy_backward(Launch launch, Rows dlogits, Rows logits, const void *target,
                                                     DType target_dtype, const float *dloss, int64_t dloss_stride,
                                                     FaultWord *fault) {
  if (logits.rows == 0 || logits.columns == 0) return cudaSuccess;
  const auto kernel = short_rows(logits) ? cross_entropy_backward_kernel<WARP> : cross_entropy_backward_kernel<BLOCK>;
  kernel<<<rows_grid(launch, logits), BLOCK, 0, launch.stream>>>(dlogits, logits, target, target_dtype, dloss,
                                                                 dloss_stride, fault);
  return cudaGetLastError();
}
