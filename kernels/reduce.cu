/* Reductions: sum, mean, product, norm, variance, max, min and argmax over any dimensions of a strided tensor.
 *
 * Where the reduced elements lie side by side, a warp or a thread block takes one output ("rows"); where the outputs
 * lie side by side, each lane takes an output of its own ("columns"). Few outputs of many elements are cut into splits,
 * whose partial results a second kernel combines. No atomics: the same input always gives the same bits. */
#include <type_traits>

#include "vectors.cuh"

namespace {

enum { BLOCK = 256, COLUMN_ROWS = BLOCK / WARP };

/* --- what is accumulated; every reducer says how a value at a position enters and how two accumulators combine --- */

/* A double holds the sum of 2^29 floats of one magnitude exactly enough that only the last rounding shows. */
struct SumFloat {
  using Value = float;
  using Accumulator = double;
  __device__ static double identity() { return 0; }
  __device__ static void accept(double &sum, float value, int64_t) { sum += value; }
  __device__ static double combine(double a, double b) { return a + b; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, double sum) {
    store_double(plan.out, plan.out_dtype, i, plan.op == REDUCE_MEAN ? sum / (double)plan.length : sum);
  }
};

struct Norm {
  using Value = float;
  using Accumulator = double;
  __device__ static double identity() { return 0; }
  __device__ static void accept(double &sum, float value, int64_t) { sum += (double)value * (double)value; }
  __device__ static double combine(double a, double b) { return a + b; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, double sum) {
    store_double(plan.out, plan.out_dtype, i, sqrt(sum));
  }
};

struct Moments {
  double sum, squares;
};

__device__ inline Moments shuffle_xor(Moments moments, int mask) {
  return {::shuffle_xor(moments.sum, mask), ::shuffle_xor(moments.squares, mask)};
}

/* Of the differences from an output's first element: variance_of. */
struct Variance {
  using Value = float;
  using Accumulator = Moments;
  __device__ static Moments identity() { return {0, 0}; }
  __device__ static void accept(Moments &moments, double difference, int64_t) {
    moments.sum += difference;
    moments.squares += difference * difference;
  }
  __device__ static Moments combine(Moments a, Moments b) { return {a.sum + b.sum, a.squares + b.squares}; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, Moments moments) {
    const double variance = variance_of(moments.sum, moments.squares, plan.length, plan.correction);
    store_double(plan.out, plan.out_dtype, i, plan.op == REDUCE_STD ? sqrt(variance) : variance);
  }
};

struct ProductFloat {
  using Value = float;
  using Accumulator = double;
  __device__ static double identity() { return 1; }
  __device__ static void accept(double &product, float value, int64_t) { product *= value; }
  __device__ static double combine(double a, double b) { return a * b; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, double product) {
    store_double(plan.out, plan.out_dtype, i, product);
  }
};

struct ProductInteger {
  using Value = int64_t;
  using Accumulator = int64_t;
  __device__ static int64_t identity() { return 1; }
  __device__ static void accept(int64_t &product, int64_t value, int64_t) { product = combine(product, value); }
  __device__ static int64_t combine(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }
  __device__ static void finish(const ReducePlan &plan, int64_t i, int64_t product) {
    store_integer(plan.out, plan.out_dtype, i, product);
  }
};

struct SumInteger {
  using Value = int64_t;
  using Accumulator = int64_t;
  __device__ static int64_t identity() { return 0; }
  __device__ static void accept(int64_t &sum, int64_t value, int64_t) { sum = combine(sum, value); }
  __device__ static int64_t combine(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
  __device__ static void finish(const ReducePlan &plan, int64_t i, int64_t sum) {
    store_integer(plan.out, plan.out_dtype, i, sum);
  }
};

struct MeanInteger {
  using Value = int64_t;
  using Accumulator = WideSum;
  __device__ static WideSum identity() { return {0, 0}; }
  __device__ static void accept(WideSum &sum, int64_t value, int64_t) { sum = combine(sum, wide_of(value)); }
  __device__ static WideSum combine(WideSum a, WideSum b) { return wide_add(a, b); }
  __device__ static void finish(const ReducePlan &plan, int64_t i, WideSum sum) {
    store_double(plan.out, plan.out_dtype, i, wide_value(sum) / (double)plan.length);
  }
};

template <bool MINIMUM> struct ExtremeFloat {
  using Value = float;
  using Accumulator = float;
  __device__ static float identity() { return MINIMUM ? INFINITY : -INFINITY; }
  __device__ static void accept(float &best, float value, int64_t) { best = combine(best, value); }
  __device__ static float combine(float a, float b) { return a != a || (MINIMUM ? a < b : a > b) ? a : b; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, float best) {
    store_float(plan.out, plan.out_dtype, i, best);
  }
};

template <bool MINIMUM> struct ExtremeInteger {
  using Value = int64_t;
  using Accumulator = int64_t;
  __device__ static int64_t identity() { return MINIMUM ? INT64_MAX : INT64_MIN; }
  __device__ static void accept(int64_t &best, int64_t value, int64_t) { best = combine(best, value); }
  __device__ static int64_t combine(int64_t a, int64_t b) { return (MINIMUM ? a < b : a > b) ? a : b; }
  __device__ static void finish(const ReducePlan &plan, int64_t i, int64_t best) {
    store_integer(plan.out, plan.out_dtype, i, best);
  }
};

template <typename T> struct Candidate {
  T value;
  int64_t position;
};

template <typename T> __device__ inline Candidate<T> shuffle_xor(Candidate<T> candidate, int mask) {
  return {::shuffle_xor(candidate.value, mask), ::shuffle_xor(candidate.position, mask)};
}

/* The first of the largest; NaN is larger than anything, and a position of INT64_MAX is no element yet. Elements are
 * accepted in the order of their positions. */
template <typename T> struct Argmax {
  using Value = T;
  using Accumulator = Candidate<T>;
  __device__ static Candidate<T> identity() { return {T(0), INT64_MAX}; }
  __device__ static void accept(Candidate<T> &best, T value, int64_t position) {
    const bool first = best.position == INT64_MAX, nan = value != value && best.value == best.value;
    if (first || nan || value > best.value) best = {value, position};
  }
  __device__ static Candidate<T> combine(Candidate<T> a, Candidate<T> b) {
    if (a.position == INT64_MAX) return b;
    if (b.position == INT64_MAX) return a;
    const bool a_is_nan = a.value != a.value, b_is_nan = b.value != b.value;
    const bool equal = (a_is_nan && b_is_nan) || a.value == b.value;
    if (equal) return a.position < b.position ? a : b;
    return a_is_nan || (!b_is_nan && a.value > b.value) ? a : b;
  }
  __device__ static void finish(const ReducePlan &plan, int64_t i, Candidate<T> best) {
    store_integer(plan.out, plan.out_dtype, i, best.position);
  }
};

/* --- reading --- */

__device__ inline float load_value(const ReducePlan &plan, int64_t offset, float) {
  return load_float(plan.data, plan.dtype, offset);
}

template <typename T> __device__ inline int64_t load_value(const ReducePlan &plan, int64_t offset, T) {
  return static_cast<const T *>(plan.data)[offset];
}

struct AnyInteger {};
template <typename Value> using AnyOf = std::conditional_t<is_integer<Value>, AnyInteger, float>;

__device__ inline int64_t load_value(const ReducePlan &plan, int64_t offset, AnyInteger) {
  return load_integer(plan.data, plan.dtype, offset);
}

/* f of what to load elements by: the type of integers, so that a loop over them has no switch in it, which keeps several
 * loads in flight. Of floats there are too many for a loop each. */
template <typename F> __device__ inline void with_loads(const ReducePlan &, float, F f) { f(float()); }
template <typename F> __device__ inline void with_loads(const ReducePlan &plan, int64_t, F f) {
  with_integer(plan.dtype, f);
}

/* Offset in elements of position i in the dimensions of `size`. */
__device__ inline int64_t strided_offset(int rank, const int64_t *size, const int64_t *stride, int64_t i) {
  int64_t offset = 0;
  for (int d = rank - 1; d > 0; d--) {
    const int64_t quotient = divide(i, size[d]);
    offset += (i - quotient * size[d]) * stride[d];
    i = quotient;
  }
  return rank > 0 ? offset + i * stride[0] : 0;
}

/* What values are taken relative to: the first element of the output at `base`, for the variance. */
template <typename Reducer> constexpr bool is_relative = std::is_same_v<Reducer, Variance>;
template <typename Reducer> __device__ inline float origin_of(const ReducePlan &plan, int64_t base) {
  return is_relative<Reducer> && plan.length > 0 ? load_float(plan.data, plan.dtype, base) : 0.0f;
}

template <typename Reducer, typename T>
__device__ inline void accept(typename Reducer::Accumulator &accumulator, T value, int64_t position, float origin) {
  if constexpr (is_relative<Reducer>) {
    Reducer::accept(accumulator, (double)value - (double)origin, position);
  } else {
    Reducer::accept(accumulator, (typename Reducer::Value)value, position);
  }
}

template <typename Reducer, typename Load>
__device__ inline void accept_at(const ReducePlan &plan, int64_t base, int64_t position, float origin,
                                 typename Reducer::Accumulator &accumulator, Load load) {
  const int64_t offset = base + strided_offset(plan.reduced_rank, plan.reduced_size, plan.reduced_stride, position);
  accept<Reducer>(accumulator, load_value(plan, offset, load), position, origin);
}

/* The whole vectors of elements begin … end - 1 of the output at `base`, one in THREADS of them. */
template <typename Reducer, typename Scalar, int THREADS>
__device__ inline void accept_vectors(const ReducePlan &plan, int64_t base, int64_t begin, int64_t end, float origin,
                                      typename Reducer::Accumulator &accumulator) {
  constexpr int width = vector_width<Scalar>;
  const auto *vectors = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.data) + base);
#pragma unroll 4
  for (int64_t i = begin / width + threadIdx.x % THREADS; i < end / width; i += THREADS) {
    float value[width];
    unpack<Scalar>(vectors[i], value);
#pragma unroll
    for (int k = 0; k < width; k++) accept<Reducer>(accumulator, value[k], i * width + k, origin);
  }
}

template <typename Reducer>
__device__ inline void write_result(const ReducePlan &plan, int64_t output, int64_t split,
                                    typename Reducer::Accumulator accumulator) {
  if (plan.splits == 1) {
    Reducer::finish(plan, output, accumulator);
  } else {
    static_cast<typename Reducer::Accumulator *>(plan.partials)[split * plan.outputs + output] = accumulator;
  }
}

/* --- kernels --- */

/* THREADS (a warp, or the thread block) for one split of one output at a time. */
template <typename Reducer, int THREADS>
__global__ void __launch_bounds__(BLOCK) reduce_rows_kernel(const __grid_constant__ ReducePlan plan) {
  constexpr int groups = BLOCK / THREADS;
  const int lane = threadIdx.x % THREADS;
  const int64_t tasks = plan.outputs * plan.splits;
  for (int64_t task = (int64_t)blockIdx.x * groups + threadIdx.x / THREADS; task < tasks;
       task += (int64_t)gridDim.x * groups) {
    const int64_t output = task / plan.splits, split = task % plan.splits;
    const int64_t base = strided_offset(plan.kept_rank, plan.kept_size, plan.kept_stride, output);
    const int64_t begin = split * plan.chunk;
    const int64_t end = begin + plan.chunk < plan.length ? begin + plan.chunk : plan.length;
    const float origin = origin_of<Reducer>(plan, base);
    auto accumulator = Reducer::identity();
    int64_t scalars = begin;
    if constexpr (!is_integer<typename Reducer::Value>) {
      if (plan.vectorize) {
        with_scalar(plan.dtype, [&](auto scalar) {
          using Scalar = decltype(scalar);
          accept_vectors<Reducer, Scalar, THREADS>(plan, base, begin, end, origin, accumulator);
          scalars = end / vector_width<Scalar> * vector_width<Scalar>;
        });
      }
    }
    for (int64_t i = scalars + lane; i < end; i += THREADS) {
      accept_at<Reducer>(plan, base, i, origin, accumulator, AnyOf<typename Reducer::Value>());
    }
    accumulator = combine_across<THREADS>(accumulator, [](auto a, auto b) { return Reducer::combine(a, b); });
    if (lane == 0) write_result<Reducer>(plan, output, split, accumulator);
  }
}

/* Thread blocks of 32 × 8: lane x takes output 32 · tile + x, the eight rows take turns at its elements. */
template <typename Reducer>
__global__ void __launch_bounds__(BLOCK) reduce_columns_kernel(const __grid_constant__ ReducePlan plan) {
  __shared__ typename Reducer::Accumulator shared[COLUMN_ROWS][WARP];
  const int64_t tiles = divide_up(plan.outputs, WARP);
  for (int64_t task = blockIdx.x; task < tiles * plan.splits; task += gridDim.x) {
    const int64_t output = task / plan.splits * WARP + threadIdx.x, split = task % plan.splits;
    auto accumulator = Reducer::identity();
    if (output < plan.outputs) {
      const int64_t base = strided_offset(plan.kept_rank, plan.kept_size, plan.kept_stride, output);
      const int64_t begin = split * plan.chunk;
      const int64_t end = begin + plan.chunk < plan.length ? begin + plan.chunk : plan.length;
      const float origin = origin_of<Reducer>(plan, base);
      with_loads(plan, typename Reducer::Value(), [&](auto element) {
#pragma unroll 4
        for (int64_t i = begin + threadIdx.y; i < end; i += COLUMN_ROWS) {
          accept_at<Reducer>(plan, base, i, origin, accumulator, element);
        }
      });
    }
    shared[threadIdx.y][threadIdx.x] = accumulator;
    __syncthreads();
    if (threadIdx.y == 0 && output < plan.outputs) {
      for (int row = 1; row < COLUMN_ROWS; row++) accumulator = Reducer::combine(accumulator, shared[row][threadIdx.x]);
      write_result<Reducer>(plan, output, split, accumulator);
    }
    __syncthreads(); /* before the next task writes `shared` */
  }
}

/* The same where outputs lie side by side in vectors of 16 bytes, and the reduced elements at one distance: each lane
 * takes a vector of outputs. */
template <typename Reducer, typename Scalar>
__global__ void __launch_bounds__(BLOCK) reduce_vectors_kernel(const __grid_constant__ ReducePlan plan) {
  constexpr int width = vector_width<Scalar>, tile = WARP * width;
  __shared__ typename Reducer::Accumulator shared[COLUMN_ROWS][tile];
  const int64_t tiles = divide_up(plan.outputs, tile);
  for (int64_t task = blockIdx.x; task < tiles * plan.splits; task += gridDim.x) {
    const int64_t first = task / plan.splits * tile, split = task % plan.splits;
    const int64_t output = first + threadIdx.x * width;
    typename Reducer::Accumulator accumulator[width];
#pragma unroll
    for (int k = 0; k < width; k++) accumulator[k] = Reducer::identity();
    if (output < plan.outputs) {
      const int64_t base = strided_offset(plan.kept_rank, plan.kept_size, plan.kept_stride, output);
      const int64_t begin = split * plan.chunk;
      const int64_t end = begin + plan.chunk < plan.length ? begin + plan.chunk : plan.length;
      const Scalar *data = static_cast<const Scalar *>(plan.data) + base;
      float origin[width];
#pragma unroll
      for (int k = 0; k < width; k++) origin[k] = origin_of<Reducer>(plan, base + k);
#pragma unroll 4
      for (int64_t i = begin + threadIdx.y; i < end; i += COLUMN_ROWS) {
        float value[width];
        unpack<Scalar>(*reinterpret_cast<const uint4 *>(data + i * plan.reduced_stride[0]), value);
#pragma unroll
        for (int k = 0; k < width; k++) accept<Reducer>(accumulator[k], value[k], i, origin[k]);
      }
    }
#pragma unroll
    for (int k = 0; k < width; k++) shared[threadIdx.y][threadIdx.x * width + k] = accumulator[k];
    __syncthreads();
    for (int i = threadIdx.y * WARP + threadIdx.x; i < tile && first + i < plan.outputs; i += BLOCK) {
      auto total = shared[0][i];
      for (int row = 1; row < COLUMN_ROWS; row++) total = Reducer::combine(total, shared[row][i]);
      write_result<Reducer>(plan, first + i, split, total);
    }
    __syncthreads(); /* before the next task writes `shared` */
  }
}

/* A warp for one output's partial results. */
template <typename Reducer>
__global__ void __launch_bounds__(BLOCK) reduce_partials_kernel(const __grid_constant__ ReducePlan plan) {
  const auto *partials = static_cast<const typename Reducer::Accumulator *>(plan.partials);
  const int lane = threadIdx.x % WARP;
  for (int64_t output = global_thread() / WARP; output < plan.outputs; output += global_threads() / WARP) {
    auto accumulator = Reducer::identity();
    for (int64_t split = lane; split < plan.splits; split += WARP) {
      accumulator = Reducer::combine(accumulator, partials[split * plan.outputs + output]);
    }
    accumulator = combine_across<WARP>(accumulator, [](auto a, auto b) { return Reducer::combine(a, b); });
    if (lane == 0) Reducer::finish(plan, output, accumulator);
  }
}

/* Rows up to this many elements are left to a warp. */
constexpr int64_t warp_elements = 1024;

template <typename Reducer> cudaError_t launch_reducer(Launch launch, const ReducePlan *plan) {
  static_assert(sizeof(typename Reducer::Accumulator) <= REDUCE_PARTIAL_BYTES, "a partial result must fit");
  if (plan->columns && plan->vectorize) {
    if constexpr (!is_integer<typename Reducer::Value>) {
      with_scalar(plan->dtype, [&](auto scalar) {
        using Scalar = decltype(scalar);
        const int64_t tiles = divide_up(plan->outputs, WARP * vector_width<Scalar>);
        const int grid = grid_size(launch, tiles * plan->splits, 1, 64);
        reduce_vectors_kernel<Reducer, Scalar><<<grid, dim3(WARP, COLUMN_ROWS), 0, launch.stream>>>(*plan);
      });
    }
  } else if (plan->columns) {
    const int grid = grid_size(launch, divide_up(plan->outputs, WARP) * plan->splits, 1, 64);
    reduce_columns_kernel<Reducer><<<grid, dim3(WARP, COLUMN_ROWS), 0, launch.stream>>>(*plan);
  } else if (plan->chunk <= warp_elements) {
    const int grid = grid_size(launch, plan->outputs * plan->splits, BLOCK / WARP, 64);
    reduce_rows_kernel<Reducer, WARP><<<grid, BLOCK, 0, launch.stream>>>(*plan);
  } else {
    const int grid = grid_size(launch, plan->outputs * plan->splits, 1, 64);
    reduce_rows_kernel<Reducer, BLOCK><<<grid, BLOCK, 0, launch.stream>>>(*plan);
  }
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess || plan->splits == 1) return error;
  reduce_partials_kernel<Reducer>
      <<<grid_size(launch, plan->outputs, BLOCK / WARP, 64), BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_reduce(Launch launch, const ReducePlan *plan) {
  if (plan->outputs == 0) return cudaSuccess;
  switch (plan->op) {
  case REDUCE_SUM:
    return plan->integer ? launch_reducer<SumInteger>(launch, plan) : launch_reducer<SumFloat>(launch, plan);
  case REDUCE_MEAN:
    return plan->integer ? launch_reducer<MeanInteger>(launch, plan) : launch_reducer<SumFloat>(launch, plan);
  case REDUCE_PROD:
    return plan->integer ? launch_reducer<ProductInteger>(launch, plan) : launch_reducer<ProductFloat>(launch, plan);
  case REDUCE_NORM:
    return launch_reducer<Norm>(launch, plan);
  case REDUCE_VAR:
  case REDUCE_STD:
    return launch_reducer<Variance>(launch, plan);
  case REDUCE_MAX:
    return plan->integer ? launch_reducer<ExtremeInteger<false>>(launch, plan)
                         : launch_reducer<ExtremeFloat<false>>(launch, plan);
  case REDUCE_MIN:
    return plan->integer ? launch_reducer<ExtremeInteger<true>>(launch, plan)
                         : launch_reducer<ExtremeFloat<true>>(launch, plan);
  case REDUCE_ARGMAX:
    return plan->integer ? launch_reducer<Argmax<int64_t>>(launch, plan) : launch_reducer<Argmax<float>>(launch, plan);
  }
  trap_missing_case();
}
