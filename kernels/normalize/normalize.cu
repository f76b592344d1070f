/* Layer and root mean square normalization of rows: out = (x - mean) · inverse · weight + bias. A row is read once,
 * into registers; its mean and the mean of its squared deviations are taken one after the other from there. MatrixRows that
 * are too long for that, or not aligned, are read three times. */
#include "normalize/normalize.cuh"

namespace {

template <typename Scalar, typename Shape>
__global__ void __launch_bounds__(ROWS_BLOCK) normalize_kernel(const __grid_constant__ NormalizePlan plan, int count) {
  constexpr int width = vector_width<Scalar>;
  const float columns = (float)plan.x.columns;
  for_each_held_row<Shape>(plan.x.rows, [&](int64_t row, int lane) {
    uint4 raw[Shape::vectors];
    load_row<Shape>(static_cast<const uint4 *>(plan.x.data) + row * count, lane, count, raw);
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
    const float inverse = 1.0f / sqrtf(sum_across<Shape>(squares) / columns + plan.epsilon);
    if (lane == 0) {
      if (plan.mean) plan.mean[row] = mean;
      plan.inverse[row] = inverse;
    }
#pragma unroll
    for (int v = 0; v < Shape::vectors; v++) {
      const int i = lane + v * Shape::threads;
      if (i >= count) continue;
      float value[width], weight[width], bias[width];
      unpack<Scalar>(raw[v], value);
      load_parameter<Scalar>(plan.weight, (int64_t)i * width, 1.0f, weight);
      load_parameter<Scalar>(plan.bias, (int64_t)i * width, 0.0f, bias);
#pragma unroll
      for (int k = 0; k < width; k++) value[k] = (value[k] - mean) * inverse * weight[k] + bias[k];
      static_cast<uint4 *>(plan.out)[row * count + i] = pack<Scalar>(value);
    }
  });
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
    const float inverse = 1.0f / sqrtf(sum_across<Shape>(squares) / columns + plan.epsilon);
    if (lane == 0) {
      if (plan.mean) plan.mean[row] = mean;
      plan.inverse[row] = inverse;
    }
    for (int64_t i = lane; i < x.columns; i += ROWS_BLOCK) {
      const float value = (load_float(x.data, x.dtype, begin + i) - mean) * inverse;
      const float result = value * load_parameter(plan.weight, i, 1.0f) + load_parameter(plan.bias, i, 0.0f);
      store_float(plan.out, x.dtype, begin + i, result);
    }
  });
}

} // namespace

extern "C" cudaError_t launch_normalize(Launch launch, const NormalizePlan *plan) {
  if (plan->x.rows == 0) return cudaSuccess;
  const bool aligned =
      on_vector(plan->x.data) && on_vector(plan->out) && on_vector(plan->weight.data) && on_vector(plan->bias.data);
  const int64_t count = aligned ? vectors_in_row(plan->x.dtype, plan->x.columns) : 0;
  const bool launched = with_row_shape(count, [&](auto shape) {
    using Shape = decltype(shape);
    with_scalar(plan->x.dtype, [&](auto scalar) {
      const int grid = rows_grid_of<Shape>(launch, plan->x.rows);
      normalize_kernel<decltype(scalar), Shape><<<grid, ROWS_BLOCK, 0, launch.stream>>>(*plan, (int)count);
    });
  });
  if (!launched) {
    normalize_any_kernel<<<grid_size(launch, plan->x.rows, 1, 64), ROWS_BLOCK, 0, launch.stream>>>(*plan);
  }
  return cudaGetLastError();
}
