/* Pooling: a thread takes a window, or the windows of two vectors of 16 bytes one above the other, and in the backward
 * pass an element with all windows that cover it. */
#include "patches/divider.cuh"
#include "patches/patches.h"
#include "rows.cuh"

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

/* The largest so far of a window; the last NaN, the first of equal ones. */
struct Largest {
  float value;
  int position;

  __device__ void meet(float other, int at) {
    if (other > value || other != other) {
      value = other;
      position = at;
    }
  }
};

/* Windows of 2 x 2 side by side, of rows of `vectors` vectors, in `tasks` tasks below 2^31. */
struct Squares {
  int tasks, vectors;
  Divider by_vectors, by_rows;
};

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK)
    largest_squares_kernel(const __grid_constant__ PoolPlan plan, const __grid_constant__ Squares squares) {
  constexpr int WIDTH = vector_width<Scalar>, WINDOWS = WIDTH / 2;
  const int height = (int)plan.rule.window.y.input, rows = (int)plan.rule.window.y.output;
  const int width = squares.vectors * WIDTH;
  for (int64_t task = global_thread(); task < squares.tasks; task += global_threads()) {
    const int row = (int)squares.by_vectors(task), plane = (int)squares.by_rows(row);
    const int y = row - plane * rows, vector = (int)task - row * squares.vectors;
    const uint4 *from =
        static_cast<const uint4 *>(plan.in) + ((int64_t)plane * height + 2 * y) * squares.vectors + vector;
    const uint4 upper = read_once(from), lower = read_once(from + squares.vectors);
    float above[WIDTH], below[WIDTH], largest[WINDOWS];
    unpack<Scalar>(upper, above);
    unpack<Scalar>(lower, below);
    Packed<int64_t, 2> index[WINDOWS / 2];
    const int first = 2 * y * width + vector * WIDTH;
#pragma unroll
    for (int k = 0; k < WINDOWS; k++) {
      const int position = first + 2 * k;
      Largest own = {-INFINITY, position};
      own.meet(above[2 * k], position);
      own.meet(above[2 * k + 1], position + 1);
      own.meet(below[2 * k], position + width);
      own.meet(below[2 * k + 1], position + width + 1);
      largest[k] = own.value;
      index[k / 2].element[k % 2] = own.position;
    }
    store_as<Scalar>(plan.out, task * WINDOWS, largest);
    if (!plan.index) continue;
#pragma unroll
    for (int k = 0; k < WINDOWS / 2; k++) {
      *reinterpret_cast<Packed<int64_t, 2> *>(plan.index + task * WINDOWS + 2 * k) = index[k];
    }
  }
}

/* Windows of SIDE x SIDE neighbours, all of whose numbers are below 2^31: each is on its way as a whole. */
template <typename Scalar, int SIDE>
__global__ void __launch_bounds__(BLOCK)
    largest_small_kernel(const __grid_constant__ PoolPlan plan, int count, Divider by_columns, Divider by_rows) {
  const WindowAxis &y_axis = plan.rule.window.y, &x_axis = plan.rule.window.x;
  const int height = (int)y_axis.input, width = (int)x_axis.input;
  for (int64_t to = global_thread(); to < count; to += global_threads()) {
    const int row = (int)by_columns(to), plane = (int)by_rows(row);
    const int top = (row - plane * (int)y_axis.output) * (int)y_axis.stride - (int)y_axis.before;
    const int left = ((int)to - row * (int)x_axis.output) * (int)x_axis.stride - (int)x_axis.before;
    const Scalar *from = static_cast<const Scalar *>(plan.in) + (int64_t)plane * height * width;
    float value[SIDE][SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; i++) {
#pragma unroll
      for (int j = 0; j < SIDE; j++) {
        const bool meets = (unsigned)(top + i) < (unsigned)height && (unsigned)(left + j) < (unsigned)width;
        value[i][j] = meets ? to_float(from[(top + i) * width + left + j]) : -INFINITY;
      }
    }
    Largest own = {-INFINITY, max(top, 0) * width + max(left, 0)};
#pragma unroll
    for (int i = 0; i < SIDE; i++) {
#pragma unroll
      for (int j = 0; j < SIDE; j++) own.meet(value[i][j], (top + i) * width + left + j);
    }
    from_float(own.value, true, static_cast<Scalar *>(plan.out)[to]);
    if (plan.index) plan.index[to] = own.position;
  }
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

bool are_squares(const PoolPlan &plan, int width) {
  const WindowAxis *axes[] = {&plan.rule.window.y, &plan.rule.window.x};
  for (const WindowAxis *axis : axes) {
    if (axis->adaptive || axis->kernel != 2 || axis->stride != 2 || axis->dilation != 1 || axis->before != 0)
      return false;
    if (2 * axis->output > axis->input) return false;
  }
  return axes[1]->input % width == 0 && on_vector(plan.in) && on_vector(plan.out) && on_vector(plan.index) &&
         plan.planes * axes[0]->input * axes[1]->input / width <= INT32_MAX &&
         axes[0]->input * axes[1]->input <= INT32_MAX;
}

/* The side of small windows; 0 of others. */
int small_side(const PoolPlan &plan) {
  const WindowAxis &y = plan.rule.window.y, &x = plan.rule.window.x;
  if (y.adaptive || x.adaptive || y.dilation != 1 || x.dilation != 1 || y.kernel != x.kernel) return 0;
  const bool fits = plan.planes * y.output * x.output <= INT32_MAX && y.input * x.input <= INT32_MAX / 2;
  return fits && (y.kernel == 2 || y.kernel == 3) ? (int)y.kernel : 0;
}

template <typename Scalar> bool launch_largest(Launch launch, const PoolPlan &plan) {
  const WindowAxis &y = plan.rule.window.y, &x = plan.rule.window.x;
  if (are_squares(plan, vector_width<Scalar>)) {
    const int64_t vectors = x.input / vector_width<Scalar>, tasks = plan.planes * y.output * vectors;
    largest_squares_kernel<Scalar><<<grid_size(launch, tasks, BLOCK, 64), BLOCK, 0, launch.stream>>>(
        plan, {(int)tasks, (int)vectors, Divider(vectors), Divider(y.output)});
    return true;
  }
  const int side = small_side(plan);
  if (side == 0) return false;
  const int count = (int)(plan.planes * y.output * x.output);
  const auto kernel = side == 2 ? largest_small_kernel<Scalar, 2> : largest_small_kernel<Scalar, 3>;
  kernel<<<grid_size(launch, count, BLOCK, 64), BLOCK, 0, launch.stream>>>(plan, count, Divider(x.output),
                                                                           Divider(y.output));
  return true;
}

} // namespace

extern "C" cudaError_t launch_pool(Launch launch, const PoolPlan *plan) {
  const int64_t count = plan->planes * plan->rule.window.y.output * plan->rule.window.x.output;
  return with_scalar(plan->dtype, [&](auto scalar) {
    if (plan->rule.largest && launch_largest<decltype(scalar)>(launch, *plan)) return cudaGetLastError();
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
