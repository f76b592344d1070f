/* Softmax and log-softmax over the rows of a contiguous matrix, scaled and causal where asked for, and their
 * derivatives. A row is read once, into the registers of a warp or a thread block; of a causal one only what it sees.
 * MatrixRows that are too long for that, not aligned, or of mixed dtypes are read several times. */
#include "rows.cuh"

namespace {

__device__ inline float max_floats(float a, float b) { return fmaxf(a, b); }

/* How many elements of a row count: SoftmaxRule. */
__device__ inline int64_t visible_columns(const MatrixRows &x, const SoftmaxRule &rule, int64_t queries, int64_t row) {
  if (!rule.causal) return x.columns;
  return x.columns - queries + (row - divide(row, queries) * queries) + 1;
}

/* Of a row's sum of exponentials, which is 0 only in a masked row. */
__device__ inline float reciprocal(float sum) { return sum == 0.0f ? 0.0f : 1.0f / sum; }

/* A NaN among the elements, or an infinity (whose difference from itself is NaN), reaches the sum. */
template <typename Scalar, typename Shape>
__global__ void __launch_bounds__(ROWS_BLOCK)
    softmax_kernel(const MatrixRows out, const MatrixRows x, const SoftmaxRule rule, int64_t queries, int count) {
  constexpr int width = vector_width<Scalar>;
  for_each_held_row<Shape>(x.rows, [&](int64_t row, int lane) {
    const int seen = (int)visible_columns(x, rule, queries, row);
    uint4 raw[Shape::vectors];
    load_row<Shape>(static_cast<const uint4 *>(x.data) + row * count, lane, divide_up(seen, width), raw);
    float value[Shape::vectors][width], largest = -INFINITY;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      if (v * Shape::threads * width >= seen) continue; /* nothing for the whole group */
      unpack<Scalar>(raw[v], value[v]);
#pragma unroll
      for (int k = 0; k < width; k++) {
        const bool visible = (lane + v * Shape::threads) * width + k < seen;
        value[v][k] = visible ? value[v][k] * rule.scale : -INFINITY;
        largest = fmaxf(largest, value[v][k]);
      }
    }
    largest = combine_across<Shape::threads>(largest, max_floats);
    if (rule.masked && largest == -INFINITY) largest = 0.0f; /* the sum is 0 then, or NaN */
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      if (v * Shape::threads * width >= seen) continue;
#pragma unroll
      for (int k = 0; k < width; k++) {
        const bool visible = (lane + v * Shape::threads) * width + k < seen;
        value[v][k] -= largest;
        const float power = visible ? exponential<Scalar>(value[v][k]) : 0.0f;
        if (!rule.logarithm) value[v][k] = power;
        sum += power;
      }
    }
    sum = sum_across<Shape>(sum);
    const float factor = rule.logarithm ? 1.0f : reciprocal(sum), shift = rule.logarithm ? logf(sum) : 0.0f;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
#pragma unroll
      for (int k = 0; k < width; k++) value[v][k] = i * width + k < seen ? value[v][k] * factor - shift : 0.0f;
      static_cast<uint4 *>(out.data)[row * count + i] = pack<Scalar>(value[v]);
    }
  });
}

/* softmax: dx = scale · y · (dy - Σ dy · y); its logarithm: dx = dy - exp(y) · Σ dy. */
template <typename Scalar, typename Shape>
__global__ void __launch_bounds__(ROWS_BLOCK)
    softmax_backward_kernel(const MatrixRows dx, const MatrixRows dy, const MatrixRows y, const SoftmaxRule rule,
                            int64_t queries, int count) {
  constexpr int width = vector_width<Scalar>;
  for_each_held_row<Shape>(y.rows, [&](int64_t row, int lane) {
    const int seen = (int)visible_columns(y, rule, queries, row), needed = divide_up(seen, width);
    uint4 raw_dy[Shape::vectors], raw_y[Shape::vectors];
    load_row<Shape>(static_cast<const uint4 *>(dy.data) + row * count, lane, needed, raw_dy);
    load_row<Shape>(static_cast<const uint4 *>(y.data) + row * count, lane, needed, raw_y);
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      float grad[width], result[width];
      unpack<Scalar>(raw_dy[v], grad);
      unpack<Scalar>(raw_y[v], result);
#pragma unroll
      for (int k = 0; k < width; k++) {
        const bool visible = (lane + v * Shape::threads) * width + k < seen;
        sum += !visible ? 0.0f : rule.logarithm ? grad[k] : grad[k] * result[k];
      }
    }
    sum = sum_across<Shape>(sum);
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
      float grad[width], result[width];
      unpack<Scalar>(raw_dy[v], grad);
      unpack<Scalar>(raw_y[v], result);
#pragma unroll
      for (int k = 0; k < width; k++) {
        grad[k] =
            rule.logarithm ? grad[k] - exponential<Scalar>(result[k]) * sum : result[k] * (grad[k] - sum) * rule.scale;
        if (i * width + k >= seen) grad[k] = 0.0f;
      }
      static_cast<uint4 *>(dx.data)[row * count + i] = pack<Scalar>(grad);
    }
  });
}

/* --- rows of any length, alignment and dtypes: a thread block a row --- */

using AnyShape = RowShape<ROWS_BLOCK, 1>;

__global__ void __launch_bounds__(ROWS_BLOCK)
    softmax_any_kernel(const MatrixRows out, const MatrixRows x, const SoftmaxRule rule, int64_t queries) {
  for_each_held_row<AnyShape>(x.rows, [&](int64_t row, int lane) {
    const int64_t seen = visible_columns(x, rule, queries, row), begin = row * x.columns;
    float largest = -INFINITY, sum = 0.0f;
    for (int64_t i = lane; i < seen; i += ROWS_BLOCK) {
      largest = fmaxf(largest, load_float(x.data, x.dtype, begin + i) * rule.scale);
    }
    largest = combine_across<ROWS_BLOCK>(largest, max_floats);
    if (rule.masked && largest == -INFINITY) largest = 0.0f;
    for (int64_t i = lane; i < seen; i += ROWS_BLOCK) {
      sum += expf(load_float(x.data, x.dtype, begin + i) * rule.scale - largest);
    }
    sum = sum_across<AnyShape>(sum);
    const float factor = reciprocal(sum), log_sum = logf(sum);
    for (int64_t i = lane; i < x.columns; i += ROWS_BLOCK) {
      const float shifted = load_float(x.data, x.dtype, begin + i) * rule.scale - largest;
      const float result = rule.logarithm ? shifted - log_sum : expf(shifted) * factor;
      store_float(out.data, out.dtype, begin + i, i < seen ? result : 0.0f);
    }
  });
}

__global__ void __launch_bounds__(ROWS_BLOCK)
    softmax_backward_any_kernel(const MatrixRows dx, const MatrixRows dy, const MatrixRows y, const SoftmaxRule rule,
                                int64_t queries) {
  for_each_held_row<AnyShape>(y.rows, [&](int64_t row, int lane) {
    const int64_t seen = visible_columns(y, rule, queries, row), begin = row * y.columns;
    float sum = 0.0f;
    for (int64_t i = lane; i < seen; i += ROWS_BLOCK) {
      const float grad = load_float(dy.data, dy.dtype, begin + i);
      sum += rule.logarithm ? grad : grad * load_float(y.data, y.dtype, begin + i);
    }
    sum = sum_across<AnyShape>(sum);
    for (int64_t i = lane; i < y.columns; i += ROWS_BLOCK) {
      const float grad = load_float(dy.data, dy.dtype, begin + i), result = load_float(y.data, y.dtype, begin + i);
      const float value = rule.logarithm ? grad - expf(result) * sum : result * (grad - sum) * rule.scale;
      store_float(dx.data, dx.dtype, begin + i, i < seen ? value : 0.0f);
    }
  });
}

} // namespace

extern "C" cudaError_t launch_softmax(Launch launch, MatrixRows out, MatrixRows x, SoftmaxRule rule, int64_t queries) {
  if (x.rows == 0 || x.columns == 0) return cudaSuccess;
  const bool aligned = on_vector(out.data) && on_vector(x.data) && out.dtype == x.dtype;
  const int64_t count = aligned ? vectors_in_row(x.dtype, x.columns) : 0;
  const bool launched = with_row_shape(count, [&](auto shape) {
    using Shape = decltype(shape);
    with_scalar(x.dtype, [&](auto scalar) {
      softmax_kernel<decltype(scalar), Shape>
          <<<rows_grid_of<Shape>(launch, x.rows), ROWS_BLOCK, 0, launch.stream>>>(out, x, rule, queries, (int)count);
    });
  });
  if (!launched) {
    softmax_any_kernel<<<grid_size(launch, x.rows, 1, 64), ROWS_BLOCK, 0, launch.stream>>>(out, x, rule, queries);
  }
  return cudaGetLastError();
}

extern "C" cudaError_t launch_softmax_backward(Launch launch, MatrixRows dx, MatrixRows dy, MatrixRows y,
                                               SoftmaxRule rule, int64_t queries) {
  if (y.rows == 0 || y.columns == 0) return cudaSuccess;
  const bool aligned = on_vector(dx.data) && on_vector(dy.data) && on_vector(y.data);
  const bool one_dtype = dx.dtype == y.dtype && dy.dtype == y.dtype;
  const int64_t count = aligned && one_dtype ? vectors_in_row(y.dtype, y.columns) : 0;
  const bool launched = with_row_shape(count, [&](auto shape) {
    using Shape = decltype(shape);
    with_scalar(y.dtype, [&](auto scalar) {
      const int grid = rows_grid_of<Shape>(launch, y.rows);
      softmax_backward_kernel<decltype(scalar), Shape>
          <<<grid, ROWS_BLOCK, 0, launch.stream>>>(dx, dy, y, rule, queries, (int)count);
    });
  });
  if (!launched) {
    const int grid = grid_size(launch, y.rows, 1, 64);
    softmax_backward_any_kernel<<<grid, ROWS_BLOCK, 0, launch.stream>>>(dx, dy, y, rule, queries);
  }
  return cudaGetLastError();
}
