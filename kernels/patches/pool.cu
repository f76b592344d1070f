/* Pooling: a thread takes a window, and in the backward pass an element with all windows that cover it. */
#include "common.cuh"
#include "patches/patches.h"

namespace {

enum { BLOCK = 256 };

/* Element `number` of planes of so many rows and columns. */
struct Place {
  int64_t plane, y, x;
};

__device__ inline Place place_of(int64_t number, int64_t rows, int64_t columns) {
  const int64_t row = divide(number, columns), plane = divide(row, rows);
  return {plane, row - plane * rows, number - row * columns};
}

/* What the sum over a window is divided by. */
__device__ inline int64_t divisor_of(const PoolRule &rule, int64_t oy, int64_t ox, WindowSpan y, WindowSpan x) {
  if (rule.divisor != 0) return rule.divisor;
  return window_length(&rule.window.y, oy, y, rule.padded) * window_length(&rule.window.x, ox, x, rule.padded);
}

template <typename Scalar>
__device__ inline void pool_largest(const PoolPlan &plan, int64_t to, const Scalar *plane, WindowSpan y, WindowSpan x) {
  const int64_t width = plan.rule.window.x.input;
  float best = -INFINITY;
  int64_t position = y.count > 0 && x.count > 0 ? y.first * width + x.first : 0;
  for (int64_t i = 0; i < y.count; i++) {
    for (int64_t j = 0; j < x.count; j++) {
      const int64_t at = (y.first + i * y.step) * width + x.first + j * x.step;
      const float value = to_float(plane[at]);
      if (value > best || value != value) {
        best = value;
        position = at;
      }
    }
  }
  from_float(best, true, static_cast<Scalar *>(plan.out)[to]);
  if (plan.index) plan.index[to] = position;
}

template <typename Scalar>
__device__ inline double window_sum(const Scalar *plane, int64_t width, WindowSpan y, WindowSpan x) {
  double sum = 0;
  for (int64_t i = 0; i < y.count; i++) {
    const Scalar *row = plane + (y.first + i * y.step) * width + x.first;
    for (int64_t j = 0; j < x.count; j++) sum += (double)to_float(row[j * x.step]);
  }
  return sum;
}

template <typename Scalar> __global__ void __launch_bounds__(BLOCK) pool_kernel(const __grid_constant__ PoolPlan plan) {
  const WindowAxis &y_axis = plan.rule.window.y, &x_axis = plan.rule.window.x;
  const int64_t count = plan.planes * y_axis.output * x_axis.output;
  for (int64_t to = global_thread(); to < count; to += global_threads()) {
    const Place place = place_of(to, y_axis.output, x_axis.output);
    const Scalar *plane = static_cast<const Scalar *>(plan.in) + place.plane * y_axis.input * x_axis.input;
    const WindowSpan y = window_span(&y_axis, place.y), x = window_span(&x_axis, place.x);
    if (plan.rule.largest) {
      pool_largest(plan, to, plane, y, x);
    } else {
      const double sum = window_sum(plane, x_axis.input, y, x);
      const float mean = (float)(sum / (double)divisor_of(plan.rule, place.y, place.x, y, x));
      from_float(mean, true, static_cast<Scalar *>(plan.out)[to]);
    }
  }
}

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) pool_backward_kernel(const __grid_constant__ PoolPlan plan) {
  const WindowAxis &y_axis = plan.rule.window.y, &x_axis = plan.rule.window.x;
  const int64_t count = plan.planes * y_axis.input * x_axis.input;
  for (int64_t to = global_thread(); to < count; to += global_threads()) {
    const Place place = place_of(to, y_axis.input, x_axis.input);
    const int64_t position = place.y * x_axis.input + place.x;
    const WindowRange rows = window_range(&y_axis, place.y), columns = window_range(&x_axis, place.x);
    float sum = 0;
    for (int64_t oy = rows.first; oy < rows.end; oy++) {
      if (!window_covers(&y_axis, oy, place.y)) continue;
      for (int64_t ox = columns.first; ox < columns.end; ox++) {
        if (!window_covers(&x_axis, ox, place.x)) continue;
        const int64_t from = (place.plane * y_axis.output + oy) * x_axis.output + ox;
        const float grad = to_float(static_cast<const Scalar *>(plan.in)[from]);
        if (!plan.rule.largest) {
          const WindowSpan y = window_span(&y_axis, oy), x = window_span(&x_axis, ox);
          sum += grad / (float)divisor_of(plan.rule, oy, ox, y, x);
        } else if (plan.index[from] == position) {
          sum += grad;
        }
      }
    }
    from_float(sum, true, static_cast<Scalar *>(plan.out)[to]);
  }
}

} // namespace

extern "C" cudaError_t launch_pool(Launch launch, const PoolPlan *plan) {
  const int64_t count = plan->planes * plan->rule.window.y.output * plan->rule.window.x.output;
  return with_scalar(plan->dtype, [&](auto scalar) {
    pool_kernel<decltype(scalar)><<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  });
}

extern "C" cudaError_t launch_pool_backward(Launch launch, const PoolPlan *plan) {
  const int64_t count = plan->planes * plan->rule.window.y.input * plan->rule.window.x.input;
  return with_scalar(plan->dtype, [&](auto scalar) {
    pool_backward_kernel<decltype(scalar)><<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  });
}
