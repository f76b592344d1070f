/* Layer and root mean square normalization of rows: out = (x - mean) · inverse · weight + bias. A row is read once,
 * into registers; its mean and the mean of its squared deviations are taken one after the other from there. MatrixRows that
 * are too long for that, or not aligned, are read three times. Where float32 is not enough for these sums, the row is
 * read again for sums in float64. */
#include "normalize/normalize.cuh"

namespace {

struct RowStatistics {
  RowMean mean;
  float inverse;
};

/* The statistics of a row from float32 sums, `variance` with epsilon in it. Squares may have overflown or vanished, and
 * the error of the mean must be small beside the deviation: then they are taken again in float64, by the whole group. */
template <typename Shape>
__device__ inline RowStatistics finish_statistics(const NormalizePlan &plan, int64_t row, int lane, float mean,
                                                  float variance) {
  if (variance > 1e-30f && variance < INFINITY && mean * 0.0625f * (mean * 0.0625f) <= variance) {
    return {{mean, 0.0f}, 1.0f / sqrtf(variance)};
  }
  MatrixRows x = plan.x;
  if (plan.sum) x.data = plan.sum;
  const int64_t begin = row * x.columns, end = begin + x.columns;
  const auto add = [](double a, double b) { return a + b; };
  double exact = 0.0, squares = 0.0;
  if (plan.mean) {
#pragma unroll 1
    for (int64_t i = begin + lane; i < end; i += Shape::threads) exact += (double)load_float(x.data, x.dtype, i);
    exact = combine_across<Shape::threads>(exact, add) / (double)x.columns;
  }
#pragma unroll 1
  for (int64_t i = begin + lane; i < end; i += Shape::threads) {
    const double deviation = (double)load_float(x.data, x.dtype, i) - exact;
    squares += deviation * deviation;
  }
  squares = combine_across<Shape::threads>(squares, add) / (double)x.columns;
  return {row_mean_of(exact), (float)(1.0 / sqrt(squares + (double)plan.epsilon))};
}

__device__ inline void store_statistics(const NormalizePlan &plan, int64_t row, const RowStatistics &statistics) {
  if (plan.mean) {
    plan.mean[2 * row] = statistics.mean.rounded;
    plan.mean[2 * row + 1] = statistics.mean.rest;
  }
  plan.inverse[row] = statistics.inverse;
}

/* The row becomes its sum with the addend's, which is written too. */
template <typename Scalar, typename Shape>
__device__ inline void add_to_row(const NormalizePlan &plan, int64_t row, int lane, int count,
                                  uint4 (&raw)[Shape::vectors]) {
  constexpr int width = vector_width<Scalar>;
  uint4 addend[Shape::vectors];
  load_row<Shape>(static_cast<const uint4 *>(plan.addend) + row * count, lane, count, addend);
#pragma unroll
  for (int v = 0; v < Shape::vectors; v++) {
    const int i = lane + v * Shape::threads;
    if (i >= count) continue;
    float value[width], added[width];
    unpack<Scalar>(raw[v], value);
    unpack<Scalar>(addend[v], added);
#pragma unroll
    for (int k = 0; k < width; k++) value[k] += added[k];
    raw[v] = pack<Scalar>(value);
    static_cast<uint4 *>(plan.sum)[row * count + i] = raw[v];
  }
}

template <typename Scalar, typename Shape>
__global__ void __launch_bounds__(ROWS_BLOCK) normalize_kernel(const __grid_constant__ NormalizePlan plan, int count) {
  constexpr int width = vector_width<Scalar>;
  const float columns = (float)plan.x.columns;
  uint32_t largest = 0;
  for_each_held_row<Shape>(plan.x.rows, [&](int64_t row, int lane) {
    uint4 raw[Shape::vectors];
    load_row<Shape>(static_cast<const uint4 *>(plan.x.data) + row * count, lane, count, raw);
    if (plan.addend) add_to_row<Scalar, Shape>(plan, row, lane, count, raw);
    float mean = 0.0f;
    if (plan.mean) {
      float sum = 0.0f;
#pragma unroll
      for (int v = 0; v < Shape::vectors; v++) {
        float value[width];
        unpack<Scalar>(raw[v], value);
#pragma unroll
        for (int k = 0; k < width; k++) sum += value[k];
      }
      mean = sum_across<Shape>(sum) / columns;
    }
    float squares = 0.0f;
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      if (lane + v * Shape::threads >= count) continue;
      float value[width];
      unpack<Scalar>(raw[v], value);
#pragma unroll
      for (int k = 0; k < width; k++) squares += (value[k] - mean) * (value[k] - mean);
    }
    const float variance = sum_across<Shape>(squares) / columns + plan.epsilon;
    const RowStatistics kept = finish_statistics<Shape>(plan, row, lane, mean, variance);
    if (lane == 0) store_statistics(plan, row, kept);
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
      float value[width], weight[width], bias[width];
      unpack<Scalar>(raw[v], value);
      load_parameter<Scalar>(plan.weight, (int64_t)i * width, 1.0f, weight);
      load_parameter<Scalar>(plan.bias, (int64_t)i * width, 0.0f, bias);
#pragma unroll
      for (int k = 0; k < width; k++) {
        value[k] = normalized_value(value[k], kept.mean, kept.inverse) * weight[k] + bias[k];
      }
      const uint4 packed = pack<Scalar>(value);
      largest = raise<Scalar>(largest, packed);
      static_cast<uint4 *>(plan.out)[row * count + i] = packed;
    }
  });
  if (plan.maxima) write_maximum<ROWS_BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
}

/* A thread block a row, of any length and alignment. */
__global__ void __launch_bounds__(ROWS_BLOCK) normalize_any_kernel(const __grid_constant__ NormalizePlan plan) {
  using Shape = RowShape<ROWS_BLOCK, 1>;
  const MatrixRows &x = plan.x;
  const float columns = (float)x.columns;
  for_each_held_row<Shape>(x.rows, [&](int64_t row, int lane) {
    const int64_t begin = row * x.columns;
    float mean = 0.0f;
    if (plan.mean) {
      float sum = 0.0f;
      for (int64_t i = lane; i < x.columns; i += ROWS_BLOCK) sum += load_float(x.data, x.dtype, begin + i);
      mean = sum_across<Shape>(sum) / columns;
    }
    float squares = 0.0f;
    for (int64_t i = lane; i < x.columns; i += ROWS_BLOCK) {
      const float deviation = load_float(x.data, x.dtype, begin + i) - mean;
      squares += deviation * deviation;
    }
    const float variance = sum_across<Shape>(squares) / columns + plan.epsilon;
    const RowStatistics kept = finish_statistics<Shape>(plan, row, lane, mean, variance);
    if (lane == 0) store_statistics(plan, row, kept);
    for (int64_t i = lane; i < x.columns; i += ROWS_BLOCK) {
      const float value = normalized_value(load_float(x.data, x.dtype, begin + i), kept.mean, kept.inverse);
      const float result = value * load_parameter(plan.weight, i, 1.0f) + load_parameter(plan.bias, i, 0.0f);
      store_float(plan.out, x.dtype, begin + i, result);
    }
  });
}

template <typename Shape> int grid_of(Launch launch, int64_t rows) {
  return grid_size(launch, rows, Shape::groups, MAXIMA_WAVES);
}

/* The vectors of a row that can be held in registers; else 0. */
int64_t held_vectors(const NormalizePlan &plan) {
  const bool aligned = on_vector(plan.x.data) && on_vector(plan.out) && on_vector(plan.weight.data) &&
                       on_vector(plan.bias.data) && on_vector(plan.addend) && on_vector(plan.sum);
  return aligned ? vectors_in_row(plan.x.dtype, plan.x.columns) : 0;
}

} // namespace

extern "C" int normalize_grid(const NormalizePlan *plan, int multiprocessors) {
  int grid = 0;
  with_row_shape(held_vectors(*plan), [&](auto shape) {
    grid = grid_of<decltype(shape)>({nullptr, multiprocessors}, plan->x.rows);
  });
  return grid;
}

extern "C" cudaError_t launch_normalize(Launch launch, const NormalizePlan *plan) {
  if (plan->x.rows == 0) return cudaSuccess;
  const int64_t count = held_vectors(*plan);
  const bool launched = with_row_shape(count, [&](auto shape) {
    using Shape = decltype(shape);
    with_scalar(plan->x.dtype, [&](auto scalar) {
      const int grid = grid_of<Shape>(launch, plan->x.rows);
      normalize_kernel<decltype(scalar), Shape><<<grid, ROWS_BLOCK, 0, launch.stream>>>(*plan, (int)count);
    });
  });
  if (!launched) {
    normalize_any_kernel<<<grid_size(launch, plan->x.rows, 1, 64), ROWS_BLOCK, 0, launch.stream>>>(*plan);
  }
  return cudaGetLastError();
}
