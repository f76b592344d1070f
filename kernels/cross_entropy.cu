/* Cross-entropy of rows of logits, and its gradient. The forward pass reads a row once for its largest logit and the
 * sum of exp(logit - largest), which the backward pass gets: it reads and writes each element once. A warp takes a
 * short row, a thread block a long one. */
#include "rows.cuh"

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

/* The vectors that a thread takes in before it moves on. */
enum { IN_FLIGHT = 4 };

/* `count`: 16-byte vectors in a row, or 0 for rows that are read element by element. */
template <typename Scalar, int THREADS>
__device__ inline LogSum row_log_sum(const MatrixRows &x, int64_t row, int lane, int count) {
  constexpr int width = vector_width<Scalar>;
  LogSum total = {-INFINITY, 0.0f};
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
        if (first + v * THREADS >= count) continue;
        float value[width];
        unpack<Scalar>(raw[v], value);
        accept<Scalar>(total, value);
      }
    }
  } else {
    for (int64_t i = lane; i < x.columns; i += THREADS) {
      float value[1] = {load_float(x.data, x.dtype, row * x.columns + i)};
      accept<float>(total, value);
    }
  }
  return combine_across<THREADS>(total, [](LogSum a, LogSum b) { return combine_log_sums(a, b); });
}

template <typename Scalar, int THREADS>
__global__ void __launch_bounds__(BLOCK) cross_entropy_kernel(const CrossEntropyPlan plan, int count) {
  const MatrixRows &logits = plan.logits;
  for_each_held_row<RowShape<THREADS, 1>>(logits.rows, [&](int64_t row, int lane) {
    const LogSum total = row_log_sum<Scalar, THREADS>(logits, row, lane, count);
    if (lane != 0) return;
    plan.statistics[2 * row] = total.maximum;
    plan.statistics[2 * row + 1] = total.sum;
    const int64_t label = load_integer(plan.target, plan.target_dtype, row);
    if (label >= 0 && label < logits.columns) {
      const float chosen = load_float(logits.data, logits.dtype, row * logits.columns + label);
      plan.loss[row] = logf(total.sum) - (chosen - total.maximum);
    } else {
      plan.loss[row] = NAN;
      report_fault(plan.fault, FAULT_CROSS_ENTROPY, label);
    }
  });
}

/* What a row's gradients are made with: the factor is dloss over the sum of exponentials. */
struct RowGradient {
  float maximum, factor, grad;
  int64_t label;

  template <typename Scalar> __device__ float of(float logit) const {
    return exponential<Scalar>(logit - maximum) * factor;
  }
};

/* A row whose target is out of range gets no one subtracted. */
template <typename Scalar, int THREADS>
__global__ void __launch_bounds__(BLOCK) cross_entropy_backward_kernel(const CrossEntropyPlan plan, int count) {
  constexpr int width = vector_width<Scalar>;
  const MatrixRows &logits = plan.logits;
  for_each_held_row<RowShape<THREADS, 1>>(logits.rows, [&](int64_t row, int lane) {
    const float grad = plan.dloss[row * plan.dloss_stride];
    const RowGradient gradient = {plan.statistics[2 * row], grad / plan.statistics[2 * row + 1], grad,
                                  load_integer(plan.target, plan.target_dtype, row)};
    if (lane == 0 && (gradient.label < 0 || gradient.label >= logits.columns)) {
      report_fault(plan.fault, FAULT_CROSS_ENTROPY, gradient.label);
    }
    if (count > 0) {
      const uint4 *data = static_cast<const uint4 *>(logits.data) + row * count;
      uint4 *out = static_cast<uint4 *>(plan.dlogits) + row * count;
#pragma unroll 4
      for (int i = lane; i < count; i += THREADS) {
        float value[width];
        unpack<Scalar>(read_once(data + i), value);
#pragma unroll
        for (int k = 0; k < width; k++) value[k] = gradient.template of<Scalar>(value[k]);
        if (gradient.label / width == i) {
#pragma unroll
          for (int k = 0; k < width; k++) value[k] -= gradient.label % width == k ? grad : 0.0f;
        }
        out[i] = pack<Scalar>(value);
      }
    } else {
      for (int64_t i = lane; i < logits.columns; i += THREADS) {
        const int64_t at = row * logits.columns + i;
        const float value = gradient.template of<float>(load_float(logits.data, logits.dtype, at));
        store_float(plan.dlogits, plan.dlogits_dtype, at, value - (i == gradient.label ? grad : 0.0f));
      }
    }
  });
}

/* MatrixRows up to this many columns are left to a warp. */
constexpr int64_t warp_columns = 1024;

int rows_grid(Launch launch, const MatrixRows &x) {
  return grid_size(launch, x.rows, x.columns <= warp_columns ? BLOCK / WARP : 1, 64);
}

/* The vectors in a row, as an int, where all of these addresses allow them. Without vectors kernels read elements of any
 * dtype, whatever they were instantiated for. */
int vector_count(const CrossEntropyPlan &plan, const void *out) {
  if (!on_vector(plan.logits.data) || !on_vector(out)) return 0;
  const int64_t count = vectors_in_row(plan.logits.dtype, plan.logits.columns);
  return count < INT32_MAX / IN_FLIGHT ? (int)count : 0;
}

} // namespace

extern "C" cudaError_t launch_cross_entropy(Launch launch, const CrossEntropyPlan *plan) {
  const MatrixRows &logits = plan->logits;
  if (logits.rows == 0) return cudaSuccess;
  const int count = vector_count(*plan, NULL);
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
  const int count = plan->dlogits_dtype == logits.dtype ? vector_count(*plan, plan->dlogits) : 0;
  with_scalar(count > 0 ? logits.dtype : DTYPE_F32, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const auto kernel = logits.columns <= warp_columns ? cross_entropy_backward_kernel<Scalar, WARP>
                                                       : cross_entropy_backward_kernel<Scalar, BLOCK>;
    kernel<<<rows_grid(launch, logits), BLOCK, 0, launch.stream>>>(*plan, count);
  });
  return cudaGetLastError();
}
