/* Cross-entropy of rows of logits, and its gradient (core/operations.h). The forward pass reads a row once for its
 * largest logit and the sum of exp(logit - largest), which the backward pass gets: it reads and writes each element once.
 * Both at once: a thread block holds its row in shared memory between the two, where it fits there. A warp takes a
 * short row, a thread block a long one. */
#include "cross_entropy.cuh"

namespace {

enum { BLOCK = ROWS_BLOCK };

/* sum = Σ exp(x - maximum) over the elements seen so far. */
struct LogSum {
  float maximum, sum;
};

__device__ inline LogSum shuffle_xor(LogSum value, int mask) {
  return {::shuffle_xor(value.maximum, mask), ::shuffle_xor(value.sum, mask)};
}

/* Takes in N elements. A NaN, or an infinity (whose difference from itself is NaN), reaches the sum and stays there;
 * -inf adds nothing, even before anything else was seen. */
template <typename Scalar, int N> __device__ inline void accept(LogSum &total, const float (&x)[N]) {
  float maximum = total.maximum;
#pragma unroll
  for (int k = 0; k < N; k++) maximum = fmaxf(maximum, x[k]);
  if (maximum > total.maximum) {
    total.sum *= expf(total.maximum - maximum);
    total.maximum = maximum;
  }
  const float shift = maximum == -INFINITY ? 0.0f : maximum;
#pragma unroll
  for (int k = 0; k < N; k++) total.sum += exponential<Scalar>(x[k] - shift);
}

__device__ inline float rescaled(LogSum part, float maximum) {
  return part.maximum == maximum ? part.sum : part.sum * expf(part.maximum - maximum);
}

__device__ inline LogSum combine_log_sums(LogSum a, LogSum b) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  return {maximum, rescaled(a, maximum) + rescaled(b, maximum)};
}

/* What a softened target needs beside the sum of exponentials: Σ share · w · (x - pivot), and Σ w. */
struct WeighedSums {
  float differences, weights;

  template <int N>
  __device__ void accept(const float *weight, int64_t column, const RowTarget &target, const float (&x)[N]) {
#pragma unroll
    for (int k = 0; k < N; k++) {
      const float w = weight ? weight[column + k] : 1.0f;
      differences += target.soft.share * w * (x[k] - target.pivot);
      weights += w;
    }
  }
};

__device__ inline WeighedSums shuffle_xor(WeighedSums value, int mask) {
  return {::shuffle_xor(value.differences, mask), ::shuffle_xor(value.weights, mask)};
}

struct RowSums {
  LogSum log_sum;
  float differences, target; /* Σ share · w · (x - pivot), and Σ q */
};

/* The vectors that a thread takes in before it moves on. */
enum { IN_FLIGHT = 4 };

/* `count`: 16-byte vectors in a row, or 0 for rows that are read element by element. Vectors are kept in `held`, unless
 * that is NULL: thread `lane` has those that it will ask for again. */
template <typename Scalar, int THREADS>
__device__ inline RowSums row_sums(const CrossEntropyPlan &plan, const RowTarget &target, int64_t row, int lane,
                                   int count, uint4 *held) {
  constexpr int width = vector_width<Scalar>;
  const MatrixRows &x = plan.logits;
  const bool soft = target.soft.share != 0.0f;
  LogSum total = {-INFINITY, 0.0f};
  WeighedSums weighed = {0.0f, 0.0f};
  if (count > 0) {
    const uint4 *data = static_cast<const uint4 *>(x.data) + row * count;
    for (int first = lane; first < count; first += IN_FLIGHT * THREADS) {
      uint4 raw[IN_FLIGHT];
#pragma unroll
      for (int v = 0; v < IN_FLIGHT; v++) {
        if (first + v * THREADS < count) raw[v] = data[first + v * THREADS];
      }
#pragma unroll
      for (int v = 0; v < IN_FLIGHT; v++) {
        const int i = first + v * THREADS;
        if (i >= count) continue;
        float value[width];
        unpack<Scalar>(raw[v], value);
        accept<Scalar>(total, value);
        if (soft) weighed.accept(plan.weight, (int64_t)i * width, target, value);
        if (held) held[i] = raw[v];
      }
    }
  } else {
    for (int64_t i = lane; i < x.columns; i += THREADS) {
      float value[1] = {load_float(x.data, x.dtype, row * x.columns + i)};
      accept<float>(total, value);
      if (soft) weighed.accept(plan.weight, i, target, value);
    }
  }
  total = combine_across<THREADS>(total, [](LogSum a, LogSum b) { return combine_log_sums(a, b); });
  if (soft) {
    weighed = combine_across<THREADS>(weighed, [](WeighedSums a, WeighedSums b) {
      return WeighedSums{a.differences + b.differences, a.weights + b.weights};
    });
  }
  const float sum_of_target = plan.weight ? soft_target_sum(target.soft, weighed.weights) : 1.0f;
  return {total, weighed.differences, sum_of_target};
}

__device__ inline void write_loss(const CrossEntropyPlan &plan, const RowTarget &target, const RowSums &sums,
                                  int64_t row) {
  if (target.out_of_range) {
    plan.loss[row] = NAN;
    report_fault(plan.fault, FAULT_CROSS_ENTROPY, target.label);
    return;
  }
  plan.loss[row] = cross_entropy_loss({sums.log_sum.maximum, sums.log_sum.sum, sums.differences}, target.soft,
                                      sums.target, target.logit);
}

__device__ inline void write_statistics(const CrossEntropyPlan &plan, const RowSums &sums, int64_t row) {
  plan.statistics[2 * row] = sums.log_sum.maximum;
  plan.statistics[2 * row + 1] = sums.log_sum.sum / sums.target;
}

template <typename Scalar, int THREADS>
__global__ void __launch_bounds__(BLOCK) cross_entropy_kernel(const CrossEntropyPlan plan, int count) {
  for_each_held_row<RowShape<THREADS, 1>>(plan.logits.rows, [&](int64_t row, int lane) {
    const RowTarget target = row_target(plan, row);
    if (target.ignored) {
      if (lane == 0) plan.loss[row] = plan.statistics[2 * row] = 0.0f, plan.statistics[2 * row + 1] = 1.0f;
      return;
    }
    const RowSums sums = row_sums<Scalar, THREADS>(plan, target, row, lane, count, nullptr);
    if (lane != 0) return;
    write_statistics(plan, sums, row);
    write_loss(plan, target, sums, row);
  });
}

/* The gradient of a row whose logits are read from `source`: `count` vectors, or, if that is 0, a row of elements. Returns
 * the running maximum (vectors.cuh) of what the thread wrote as vectors. */
template <typename Scalar, int THREADS>
__device__ inline uint32_t write_gradient(const CrossEntropyPlan &plan, const RowGradient &gradient, int64_t row,
                                          int lane, int count, const uint4 *source) {
  constexpr int width = vector_width<Scalar>;
  const MatrixRows &logits = plan.logits;
  uint32_t largest = 0;
  if (count > 0) {
    uint4 *out = static_cast<uint4 *>(plan.dlogits) + row * count;
#pragma unroll 4
    for (int i = lane; i < count; i += THREADS) {
      float value[width];
      unpack<Scalar>(source[i], value);
      gradient.template apply<Scalar>(plan.weight, (int64_t)i * width, value);
      const uint4 packed = pack<Scalar>(value);
      largest = raise<Scalar>(largest, packed);
      if (plan.dlogits) out[i] = packed;
    }
  } else {
    for (int64_t i = lane; i < logits.columns; i += THREADS) {
      const int64_t at = row * logits.columns + i;
      float value[1] = {load_float(logits.data, logits.dtype, at)};
      gradient.template apply<float>(plan.weight, i, value);
      store_float(plan.dlogits, logits.dtype, at, value[0]);
    }
  }
  return largest;
}

template <typename Scalar, int THREADS>
__device__ inline void clear_gradient(const CrossEntropyPlan &plan, int64_t row, int lane, int count) {
  if (!plan.dlogits) return;
  if (count > 0) {
    uint4 *out = static_cast<uint4 *>(plan.dlogits) + row * count;
    for (int i = lane; i < count; i += THREADS) out[i] = make_uint4(0, 0, 0, 0);
  } else {
    const int64_t columns = plan.logits.columns;
    for (int64_t i = lane; i < columns; i += THREADS) {
      store_float(plan.dlogits, plan.logits.dtype, row * columns + i, 0.0f);
    }
  }
}

template <typename Scalar, int THREADS>
__global__ void __launch_bounds__(BLOCK) cross_entropy_backward_kernel(const CrossEntropyPlan plan, int count) {
  for_each_held_row<RowShape<THREADS, 1>>(plan.logits.rows, [&](int64_t row, int lane) {
    const RowTarget target = row_target(plan, row);
    if (target.ignored) return clear_gradient<Scalar, THREADS>(plan, row, lane, count);
    if (lane == 0 && target.out_of_range) report_fault(plan.fault, FAULT_CROSS_ENTROPY, target.label);
    const RowGradient gradient(target, plan.statistics[2 * row], plan.statistics[2 * row + 1],
                               plan.dloss[row * plan.dloss_stride]);
    write_gradient<Scalar, THREADS>(plan, gradient, row, lane, count,
                                    static_cast<const uint4 *>(plan.logits.data) + row * count);
  });
}

/* Threads of a block that takes a row at a time. Two such blocks hold rows of up to 112 KiB on a multiprocessor of compute
 * capability 9.0. */
enum { LONG_BLOCK = 512, HELD_MOST = 112 << 10 };

template <int THREADS> constexpr int gradient_block = THREADS == WARP ? BLOCK : THREADS;

/* A thread reads again only what it has read before, so that dlogits may be the logits; but for the label's logit, which
 * all have read before any of them writes. */
template <typename Scalar, int THREADS>
__global__ void __launch_bounds__(gradient_block<THREADS>, 2)
    cross_entropy_gradient_kernel(const CrossEntropyPlan plan, int count, bool holding) {
  extern __shared__ uint4 row_in_shared_memory[];
  uint4 *held = holding ? row_in_shared_memory : nullptr;
  constexpr int groups = gradient_block<THREADS> / THREADS;
  const int lane = threadIdx.x % THREADS;
  int64_t row = (int64_t)blockIdx.x * groups + threadIdx.x / THREADS;
  uint32_t largest = 0;
  for (; row < plan.logits.rows; row += (int64_t)gridDim.x * groups) {
    const RowTarget target = row_target(plan, row);
    if (target.ignored) {
      if (lane == 0) plan.loss[row] = 0.0f;
      if (lane == 0 && plan.statistics) plan.statistics[2 * row] = 0.0f, plan.statistics[2 * row + 1] = 1.0f;
      clear_gradient<Scalar, THREADS>(plan, row, lane, count);
      continue;
    }
    const RowSums sums = row_sums<Scalar, THREADS>(plan, target, row, lane, count, held);
    if (lane == 0) write_loss(plan, target, sums, row);
    if (lane == 0 && plan.statistics) write_statistics(plan, sums, row);
    if (THREADS == WARP) __syncwarp();
    const RowGradient gradient(target, sums.log_sum.maximum, sums.log_sum.sum / sums.target,
                               plan.dloss[row * plan.dloss_stride]);
    const uint4 *source = held ? held : static_cast<const uint4 *>(plan.logits.data) + row * count;
    const uint32_t own = write_gradient<Scalar, THREADS>(plan, gradient, row, lane, count, source);
    largest = raise<Scalar>(largest, own);
  }
  if (plan.maxima) write_maximum<gradient_block<THREADS>>(plan.maxima, magnitude_bits(largest, Scalar()));
}

/* MatrixRows up to this many columns are left to a warp. */
constexpr int64_t warp_columns = 1024;

int rows_grid(Launch launch, const MatrixRows &x) {
  return grid_size(launch, x.rows, x.columns <= warp_columns ? BLOCK / WARP : 1, 64);
}

/* The vectors in a row, as an int, where all of these addresses allow them. Without vectors kernels read elements of any
 * dtype, whatever they were instantiated for. */
int vector_count(const CrossEntropyPlan &plan) {
  if (!on_vector(plan.logits.data) || !on_vector(plan.dlogits)) return 0;
  const int64_t count = vectors_in_row(plan.logits.dtype, plan.logits.columns);
  return count < INT32_MAX / IN_FLIGHT ? (int)count : 0;
}

template <int THREADS> int gradient_grid(Launch launch, const CrossEntropyPlan &plan) {
  return grid_size(launch, plan.logits.rows, gradient_block<THREADS> / THREADS, MAXIMA_WAVES);
}

template <typename Scalar, int THREADS> void start_gradient(Launch launch, const CrossEntropyPlan &plan, int count) {
  const auto kernel = cross_entropy_gradient_kernel<Scalar, THREADS>;
  constexpr int block = gradient_block<THREADS>;
  const size_t bytes = THREADS == WARP ? 0 : (size_t)count * sizeof(uint4);
  const bool holding =
      bytes > 0 && bytes <= HELD_MOST &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes) == cudaSuccess;
  cudaGetLastError(); /* of a GPU that has less shared memory */
  kernel<<<gradient_grid<THREADS>(launch, plan), block, holding ? bytes : 0, launch.stream>>>(plan, count, holding);
}

} // namespace

extern "C" cudaError_t launch_cross_entropy(Launch launch, const CrossEntropyPlan *plan) {
  const MatrixRows &logits = plan->logits;
  if (logits.rows == 0) return cudaSuccess;
  const int count = vector_count(*plan);
  with_scalar(count > 0 ? logits.dtype : DTYPE_F32, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const auto kernel =
        logits.columns <= warp_columns ? cross_entropy_kernel<Scalar, WARP> : cross_entropy_kernel<Scalar, BLOCK>;
    kernel<<<rows_grid(launch, logits), BLOCK, 0, launch.stream>>>(*plan, count);
  });
  return cudaGetLastError();
}

extern "C" cudaError_t launch_cross_entropy_backward(Launch launch, const CrossEntropyPlan *plan) {
  const MatrixRows &logits = plan->logits;
  if (logits.rows == 0 || logits.columns == 0) return cudaSuccess;
  const int count = vector_count(*plan);
  with_scalar(count > 0 ? logits.dtype : DTYPE_F32, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const auto kernel = logits.columns <= warp_columns ? cross_entropy_backward_kernel<Scalar, WARP>
                                                       : cross_entropy_backward_kernel<Scalar, BLOCK>;
    kernel<<<rows_grid(launch, logits), BLOCK, 0, launch.stream>>>(*plan, count);
  });
  return cudaGetLastError();
}

extern "C" int cross_entropy_gradient_grid(const CrossEntropyPlan *plan, int multiprocessors) {
  const Launch launch = {nullptr, multiprocessors};
  if (vector_count(*plan) == 0) return 0;
  return plan->logits.columns <= warp_columns ? gradient_grid<WARP>(launch, *plan)
                                              : gradient_grid<LONG_BLOCK>(launch, *plan);
}

extern "C" cudaError_t launch_cross_entropy_gradient(Launch launch, const CrossEntropyPlan *plan) {
  const MatrixRows &logits = plan->logits;
  if (logits.rows == 0 || logits.columns == 0) return cudaSuccess;
  const int count = vector_count(*plan);
  with_scalar(count > 0 ? logits.dtype : DTYPE_F32, [&](auto scalar) {
    using Scalar = decltype(scalar);
    if (logits.columns <= warp_columns) {
      start_gradient<Scalar, WARP>(launch, *plan, count);
    } else {
      start_gradient<Scalar, LONG_BLOCK>(launch, *plan, count);
    }
  });
  return cudaGetLastError();
}
