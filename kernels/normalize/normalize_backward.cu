/* The gradients of normalization. With n = (x - mean) · inverse and g = dy · weight: dx = inverse · (g - mean of g - n
 * · mean of (g · n)) plus an addend, dweight = Σ dy · n and dbias = Σ dy over the rows.
 *
 * A row of x and one of dy are read once, into registers. The groups of threads walk over the rows, so that a thread
 * meets the same columns again and again and sums its part of dweight and dbias in registers; each thread block leaves
 * one row of partial sums, which finish_sum adds up in double. The order never depends on timing. */
#include "normalize/normalize.cuh"

namespace {

/* Thread blocks that a multiprocessor holds at once. */
template <typename Shape> constexpr int resident = Shape::vectors == 1 ? 3 : 2;

/* Sums of the groups of a thread block, for one vector of every lane, to its partial row. */
template <typename Shape, int WIDTH>
__device__ inline void write_partial(float *partials, int64_t columns, int first_vector, int count,
                                     const float (&sum)[WIDTH]) {
  float *partial = partials + blockIdx.x * columns;
  if constexpr (Shape::groups == 1) {
    const int i = first_vector + threadIdx.x;
#pragma unroll
    for (int k = 0; k < WIDTH && i < count; k++) partial[(int64_t)i * WIDTH + k] = sum[k];
  } else {
    __shared__ float shared[ROWS_BLOCK / WARP][WARP][WIDTH + 1];
#pragma unroll
    for (int k = 0; k < WIDTH; k++) shared[threadIdx.x / WARP][threadIdx.x % WARP][k] = sum[k];
    __syncthreads();
    /* Neighbouring threads take neighbouring columns, of which there are at most as many as threads. */
    const int own = threadIdx.x / WIDTH, k = threadIdx.x % WIDTH;
    if (own < WARP && first_vector + own < count) {
      float total = shared[0][own][k];
      for (int i = 1; i < ROWS_BLOCK / WARP; i++) total += shared[i][own][k];
      partial[(int64_t)(first_vector + own) * WIDTH + k] = total;
    }
    __syncthreads(); /* before the next call writes `shared` */
  }
}

template <typename Scalar, typename Shape>
__global__ void __launch_bounds__(ROWS_BLOCK, resident<Shape>)
    normalize_backward_kernel(const __grid_constant__ NormalizeBackwardPlan plan, int count) {
  constexpr int width = vector_width<Scalar>;
  const float columns = (float)plan.x.columns;
  float weight_sum[Shape::vectors][width] = {}, bias_sum[Shape::vectors][width] = {};
  uint32_t largest = 0;
  for_each_held_row<Shape>(plan.x.rows, [&](int64_t from_the_end, int lane) {
    const int64_t row = plan.x.rows - 1 - from_the_end; /* whose dy is in the cache yet, after a product */
    uint4 raw_x[Shape::vectors], raw_dy[Shape::vectors];
    load_row<Shape>(static_cast<const uint4 *>(plan.x.data) + row * count, lane, count, raw_x);
    load_row<Shape>(static_cast<const uint4 *>(plan.dy) + row * count, lane, count, raw_dy);
    const RowMean mean = kept_mean(plan.mean, row);
    const float inverse = plan.inverse[row];
    float sum = 0.0f, sum_product = 0.0f;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
      float normalized[width], grad[width], weight[width];
      unpack<Scalar>(raw_x[v], normalized);
      unpack<Scalar>(raw_dy[v], grad);
      load_parameter<Scalar>(plan.weight, (int64_t)i * width, 1.0f, weight);
#pragma unroll
      for (int k = 0; k < width; k++) {
        normalized[k] = normalized_value(normalized[k], mean, inverse);
        weight_sum[v][k] += grad[k] * normalized[k];
        bias_sum[v][k] += grad[k];
        const float weighted = grad[k] * weight[k];
        sum += weighted;
        sum_product += weighted * normalized[k];
      }
    }
    if (!plan.dx) return;
    const float mean_grad = plan.mean ? sum_across<Shape>(sum) / columns : 0.0f;
    const float mean_product = sum_across<Shape>(sum_product) / columns;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
      float value[width], grad[width], weight[width];
      unpack<Scalar>(raw_x[v], value);
      unpack<Scalar>(raw_dy[v], grad);
      load_parameter<Scalar>(plan.weight, (int64_t)i * width, 1.0f, weight);
#pragma unroll
      for (int k = 0; k < width; k++) {
        const float normalized = normalized_value(value[k], mean, inverse);
        value[k] = inverse * (grad[k] * weight[k] - mean_grad - normalized * mean_product);
      }
      if (plan.addend) {
        unpack<Scalar>(static_cast<const uint4 *>(plan.addend)[row * count + i], grad);
#pragma unroll
        for (int k = 0; k < width; k++) value[k] += grad[k];
      }
      const uint4 packed = pack<Scalar>(value);
      largest = raise<Scalar>(largest, packed);
      store_vector(static_cast<uint4 *>(plan.dx) + row * count + i, packed);
    }
  });
  if (plan.maxima) write_maximum<ROWS_BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
#pragma unroll
  for (int v = 0; v < Shape::vectors; v++) {
    if (plan.weight_partials)
      write_partial<Shape>(plan.weight_partials, plan.x.columns, v * Shape::threads, count, weight_sum[v]);
    if (plan.bias_partials)
      write_partial<Shape>(plan.bias_partials, plan.x.columns, v * Shape::threads, count, bias_sum[v]);
  }
}

/* --- rows of any length and alignment: dx by a thread block a row, the sums by columns --- */

struct Gradient {
  float normalized, grad;
};

__device__ inline Gradient load_gradient(const NormalizeBackwardPlan &plan, int64_t row, int64_t column) {
  const int64_t i = row * plan.x.columns + column;
  const float x = load_float(plan.x.data, plan.x.dtype, i);
  return {normalized_value(x, kept_mean(plan.mean, row), plan.inverse[row]), load_float(plan.dy, plan.dy_dtype, i)};
}

__global__ void __launch_bounds__(ROWS_BLOCK)
    normalize_backward_any_kernel(const __grid_constant__ NormalizeBackwardPlan plan) {
  using Shape = RowShape<ROWS_BLOCK, 1>;
  const float columns = (float)plan.x.columns;
  for_each_held_row<Shape>(plan.x.rows, [&](int64_t row, int lane) {
    float sum = 0.0f, sum_product = 0.0f;
    for (int64_t i = lane; i < plan.x.columns; i += ROWS_BLOCK) {
      const Gradient at = load_gradient(plan, row, i);
      const float weighted = at.grad * load_parameter(plan.weight, i, 1.0f);
      sum += weighted;
      sum_product += weighted * at.normalized;
    }
    const float mean_grad = plan.mean ? sum_across<Shape>(sum) / columns : 0.0f;
    const float mean_product = sum_across<Shape>(sum_product) / columns;
    for (int64_t i = lane; i < plan.x.columns; i += ROWS_BLOCK) {
      const Gradient at = load_gradient(plan, row, i);
      const float weighted = at.grad * load_parameter(plan.weight, i, 1.0f);
      const float value = plan.inverse[row] * (weighted - mean_grad - at.normalized * mean_product);
      const int64_t at_x = row * plan.x.columns + i;
      const float addend = plan.addend ? load_float(plan.addend, plan.x.dtype, at_x) : 0.0f;
      store_float(plan.dx, plan.x.dtype, at_x, value + addend);
    }
  });
}

/* Thread blocks of 32 × 8: lane x takes a column of a tile, the eight rows take turns at the matrix's. */
__global__ void __launch_bounds__(ROWS_BLOCK)
    normalize_sums_kernel(const __grid_constant__ NormalizeBackwardPlan plan, int tiles) {
  constexpr int turns = ROWS_BLOCK / WARP;
  __shared__ float shared[2][turns][WARP];
  const int64_t column = (int64_t)(blockIdx.x % tiles) * WARP + threadIdx.x, partial_row = blockIdx.x / tiles;
  float weight_sum = 0.0f, bias_sum = 0.0f;
  if (column < plan.x.columns) {
    for (int64_t row = partial_row * turns + threadIdx.y; row < plan.x.rows;
         row += (int64_t)plan.partial_rows * turns) {
      const Gradient at = load_gradient(plan, row, column);
      weight_sum += at.grad * at.normalized;
      bias_sum += at.grad;
    }
  }
  shared[0][threadIdx.y][threadIdx.x] = weight_sum;
  shared[1][threadIdx.y][threadIdx.x] = bias_sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= plan.x.columns) return;
  for (int i = 1; i < turns; i++) {
    weight_sum += shared[0][i][threadIdx.x];
    bias_sum += shared[1][i][threadIdx.x];
  }
  if (plan.weight_partials) plan.weight_partials[partial_row * plan.x.columns + column] = weight_sum;
  if (plan.bias_partials) plan.bias_partials[partial_row * plan.x.columns + column] = bias_sum;
}

int64_t held_vectors(const NormalizeBackwardPlan &plan) {
  const bool aligned = on_vector(plan.x.data) && on_vector(plan.dy) && on_vector(plan.dx) && on_vector(plan.addend) &&
                       on_vector(plan.weight.data);
  return aligned && plan.dy_dtype == plan.x.dtype ? vectors_in_row(plan.x.dtype, plan.x.columns) : 0;
}

} // namespace

/* No partial sum is of more than LONGEST_CHAIN rows. */
extern "C" void normalize_backward_shape(NormalizeBackwardPlan *plan, int multiprocessors) {
  enum { LONGEST_CHAIN = 512 };
  int64_t groups = ROWS_BLOCK / WARP, blocks = 2 * multiprocessors;
  plan->held = with_row_shape(held_vectors(*plan), [&](auto shape) {
    groups = decltype(shape)::groups;
    blocks = resident<decltype(shape)> * multiprocessors;
  });
  const int64_t turns = divide_up(plan->x.rows, groups), least = divide_up(turns, LONGEST_CHAIN);
  const int64_t wanted = blocks > least ? blocks : least;
  plan->partial_rows = (int)(wanted < turns ? wanted : turns);
}

extern "C" cudaError_t launch_normalize_backward(Launch launch, const NormalizeBackwardPlan *plan) {
  if (plan->x.rows == 0) return cudaSuccess;
  const int64_t count = held_vectors(*plan);
  const bool launched = with_row_shape(count, [&](auto shape) {
    using Shape = decltype(shape);
    with_scalar(plan->x.dtype, [&](auto scalar) {
      normalize_backward_kernel<decltype(scalar), Shape>
          <<<plan->partial_rows, ROWS_BLOCK, 0, launch.stream>>>(*plan, (int)count);
    });
  });
  if (launched) return cudaGetLastError();
  if (plan->dx) {
    const int grid = grid_size(launch, plan->x.rows, 1, 64);
    normalize_backward_any_kernel<<<grid, ROWS_BLOCK, 0, launch.stream>>>(*plan);
  }
  if (plan->weight_partials || plan->bias_partials) {
    const int tiles = (int)divide_up(plan->x.columns, WARP), grid = tiles * plan->partial_rows;
    normalize_sums_kernel<<<grid, dim3(WARP, ROWS_BLOCK / WARP), 0, launch.stream>>>(*plan, tiles);
  }
  return cudaGetLastError();
}
