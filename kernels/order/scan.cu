/* Running sums and products along a dimension (core/order/scan.h). A row is scanned by a warp or a thread block, a tile
 * after the other; of columns beside each other, each by a thread. A dimension that few of them share is cut into slices,
 * by the shape alone: their totals, then what each starts from, then the results. The order of operations is the same in
 * every run. */
#include "order/scan.h"

#include <cub/block/block_scan.cuh>
#include <cub/warp/warp_scan.cuh>

#include "common.cuh"
#include "core/order/scan.h"

namespace {

enum {
  BLOCK = 256,
  ITEMS = 8,            /* neighbouring elements of a row that a thread has at once */
  TILE = BLOCK * ITEMS, /* of a thread block */
  WARP_TILE = WARP * ITEMS,
  FEW_ROWS = 256,        /* fewer rows are cut into slices, until there are four times as many, */
  FEW_COLUMNS = 1 << 14, /* or fewer columns, */
  SLICE_TILES = 2,       /* of at least so many tiles, */
  COLUMN_SLICE = 32,     /* or elements */
  SLICES_MOST = 1024,
  AT_ONCE = 8 /* elements of a column that are on their way from memory */
};

/* --- what is computed: a state, what combines two, elements to states and back --- */

struct FloatSum {
  using State = double;
  __device__ static State none() { return 0; }
  template <typename T> __device__ static State of(T x) { return to_float(x); }
  __device__ State operator()(State a, State b) const { return a + b; }
  __device__ static double value(State state) { return state; }
};

struct FloatProduct {
  using State = WideProduct;
  __device__ static State none() { return {1, 0}; }
  template <typename T> __device__ static State of(T x) { return wide_product(to_float(x), 0); }
  __device__ State operator()(State a, State b) const { return multiply_products(a, b); }
  __device__ static double value(State state) { return product_value(state); }
};

struct IntegerSum {
  using State = uint64_t;
  __device__ static State none() { return 0; }
  template <typename T> __device__ static State of(T x) { return (uint64_t)(int64_t)x; }
  __device__ State operator()(State a, State b) const { return a + b; }
  __device__ static int64_t value(State state) { return (int64_t)state; }
};

struct IntegerProduct : IntegerSum {
  __device__ static State none() { return 1; }
  __device__ State operator()(State a, State b) const { return a * b; }
};

static_assert(sizeof(FloatSum::State) <= SCAN_STATE_BYTES && sizeof(FloatProduct::State) <= SCAN_STATE_BYTES);

/* Rounds once. */
template <typename T> __device__ inline void store_value(T &out, double value) {
  from_float(sizeof(T) == sizeof(float) ? (float)value : float_to_odd(value), true, out);
}
__device__ inline void store_value(int64_t &out, int64_t value) { out = value; }

/* --- rows --- */

/* A run: a slice of a row. */
template <typename Math, typename T, typename Out, int THREADS>
__global__ void __launch_bounds__(BLOCK) rows_kernel(const __grid_constant__ ScanPlan plan, bool vectors, bool totals) {
  using State = typename Math::State;
  using WarpScan = cub::WarpScan<State>;
  using BlockScan = cub::BlockScan<State, BLOCK>;
  constexpr int GROUPS = BLOCK / THREADS, SPAN = THREADS * ITEMS;
  __shared__ union {
    typename WarpScan::TempStorage warp[BLOCK / WARP];
    typename BlockScan::TempStorage block;
  } shared;
  const int group = threadIdx.x / THREADS, thread = threadIdx.x % THREADS;
  const int64_t run = (int64_t)blockIdx.x * GROUPS + group;
  if (THREADS == WARP && run >= plan.outer * plan.slices) return; /* a whole warp */
  const int64_t row = run / plan.slices, begin = (run - row * plan.slices) * plan.slice;
  const int64_t end = begin + plan.slice < plan.n ? begin + plan.slice : plan.n;
  const T *x = static_cast<const T *>(plan.x) + row * plan.n;
  Out *out = static_cast<Out *>(plan.out) + row * plan.n;
  State *starts = static_cast<State *>(plan.starts);
  const bool reverse = plan.rule.reverse;
  const Math combine;
  State before = starts && !totals ? starts[run] : Math::none();
  for (int64_t tile = begin; tile < end; tile += SPAN) {
    const int64_t first = tile + thread * ITEMS;
    const int count = (int)(end - first < ITEMS ? end - first < 0 ? 0 : end - first : ITEMS);
    const int64_t low = reverse ? plan.n - first - ITEMS : first; /* where the elements are, if there are ITEMS */
    State state[ITEMS];
    if (vectors && count == ITEMS) {
      const Packed<T, ITEMS> packed = *reinterpret_cast<const Packed<T, ITEMS> *>(x + low);
#pragma unroll
      for (int k = 0; k < ITEMS; k++) state[k] = Math::of(reverse ? packed.element[ITEMS - 1 - k] : packed.element[k]);
    } else {
#pragma unroll
      for (int k = 0; k < ITEMS; k++) {
        state[k] = k < count ? Math::of(x[reverse ? plan.n - 1 - first - k : first + k]) : Math::none();
      }
    }
#pragma unroll
    for (int k = 1; k < ITEMS; k++) state[k] = combine(state[k - 1], state[k]);
    State earlier, total;
    if (THREADS == WARP) {
      WarpScan(shared.warp[group]).ExclusiveScan(state[ITEMS - 1], earlier, Math::none(), combine, total);
    } else {
      BlockScan(shared.block).ExclusiveScan(state[ITEMS - 1], earlier, Math::none(), combine, total);
    }
    if (!totals) {
      const State offset = combine(before, earlier);
      Packed<Out, ITEMS> result;
#pragma unroll
      for (int k = 0; k < ITEMS; k++) {
        store_value(result.element[reverse ? ITEMS - 1 - k : k], Math::value(combine(offset, state[k])));
      }
      if (vectors && count == ITEMS) {
        *reinterpret_cast<Packed<Out, ITEMS> *>(out + low) = result;
      } else {
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
          if (k < count)
            out[reverse ? plan.n - 1 - first - k : first + k] = result.element[reverse ? ITEMS - 1 - k : k];
        }
      }
    }
    before = combine(before, total);
    if (THREADS != WARP) __syncthreads(); /* before the next tile writes `shared` */
  }
  if (totals && thread == 0) starts[run] = before;
}

/* --- columns --- */

/* A thread has a slice of a column. */
template <typename Math, typename T, typename Out>
__global__ void __launch_bounds__(BLOCK) columns_kernel(const __grid_constant__ ScanPlan plan, bool totals) {
  using State = typename Math::State;
  const int64_t run = global_thread();
  if (run >= plan.outer * plan.slices * plan.inner) return;
  const int64_t slab = divide(run, plan.inner), column = run - slab * plan.inner;
  const int64_t outer = divide(slab, plan.slices), begin = (slab - outer * plan.slices) * plan.slice;
  const int64_t end = begin + plan.slice < plan.n ? begin + plan.slice : plan.n;
  State *starts = static_cast<State *>(plan.starts);
  const Math combine;
  State state = starts && !totals ? starts[run] : Math::none();
  const int64_t base = outer * plan.n * plan.inner + column;
  const T *x = static_cast<const T *>(plan.x);
  Out *out = static_cast<Out *>(plan.out);
  for (int64_t first = begin; first < end; first += AT_ONCE) {
    T value[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
      const int64_t j = first + k;
      if (j < end) value[k] = x[base + (plan.rule.reverse ? plan.n - 1 - j : j) * plan.inner];
    }
#pragma unroll
    for (int k = 0; k < AT_ONCE; k++) {
      const int64_t j = first + k;
      if (j >= end) break;
      state = combine(state, Math::of(value[k]));
      if (!totals) {
        store_value(out[base + (plan.rule.reverse ? plan.n - 1 - j : j) * plan.inner], Math::value(state));
      }
    }
  }
  if (totals) starts[run] = state;
}

/* Totals of slices become what each of them starts from: a thread block has those of a row or a column. */
template <typename Math> __global__ void __launch_bounds__(BLOCK) starts_kernel(const __grid_constant__ ScanPlan plan) {
  using State = typename Math::State;
  using BlockScan = cub::BlockScan<State, BLOCK>;
  __shared__ typename BlockScan::TempStorage shared;
  const int64_t outer = blockIdx.x / plan.inner, column = blockIdx.x - outer * plan.inner;
  State *starts = static_cast<State *>(plan.starts) + outer * plan.slices * plan.inner + column;
  State state[SLICES_MOST / BLOCK];
#pragma unroll
  for (int k = 0; k < SLICES_MOST / BLOCK; k++) {
    const int64_t slice = threadIdx.x * (SLICES_MOST / BLOCK) + k;
    state[k] = slice < plan.slices ? starts[slice * plan.inner] : Math::none();
  }
  BlockScan(shared).ExclusiveScan(state, state, Math::none(), Math());
#pragma unroll
  for (int k = 0; k < SLICES_MOST / BLOCK; k++) {
    const int64_t slice = threadIdx.x * (SLICES_MOST / BLOCK) + k;
    if (slice < plan.slices) starts[slice * plan.inner] = state[k];
  }
}

/* --- launching --- */

template <typename Math, typename T, typename Out>
cudaError_t scan_pass(Launch launch, const ScanPlan &plan, bool totals) {
  const int64_t runs = plan.outer * plan.slices * plan.inner;
  const bool vectors = plan.n % ITEMS == 0 && (uintptr_t)plan.x % 16 == 0 && (uintptr_t)plan.out % 16 == 0;
  const bool short_rows = plan.n <= WARP_TILE;
  const int64_t grid = plan.inner > 1 ? divide_up(runs, BLOCK) : short_rows ? divide_up(runs, BLOCK / WARP) : runs;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  if (plan.inner > 1) {
    columns_kernel<Math, T, Out><<<(unsigned)grid, BLOCK, 0, launch.stream>>>(plan, totals);
  } else if (short_rows) {
    rows_kernel<Math, T, Out, WARP><<<(unsigned)grid, BLOCK, 0, launch.stream>>>(plan, vectors, totals);
  } else {
    rows_kernel<Math, T, Out, BLOCK><<<(unsigned)grid, BLOCK, 0, launch.stream>>>(plan, vectors, totals);
  }
  return cudaGetLastError();
}

template <typename Math, typename T, typename Out> cudaError_t scan(Launch launch, const ScanPlan &plan) {
  if (plan.slices > 1) {
    cudaError_t error = scan_pass<Math, T, Out>(launch, plan, true);
    if (error != cudaSuccess) return error;
    starts_kernel<Math><<<(unsigned)(plan.outer * plan.inner), BLOCK, 0, launch.stream>>>(plan);
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  return scan_pass<Math, T, Out>(launch, plan, false);
}

} // namespace

extern "C" void scan_shape(ScanPlan *plan) {
  const bool rows = plan->inner == 1;
  const int64_t runs = plan->outer * plan->inner, few = rows ? FEW_ROWS : FEW_COLUMNS;
  const int64_t unit = rows ? SLICE_TILES * TILE : COLUMN_SLICE, units = divide_up(plan->n, unit);
  int64_t slices = runs >= few ? 1 : divide_up(4 * few, runs);
  if (slices > units) slices = units;
  if (slices > SLICES_MOST) slices = SLICES_MOST;
  plan->slice = divide_up(units, slices) * unit;
  plan->slices = divide_up(plan->n, plan->slice);
}

extern "C" cudaError_t launch_scan(Launch launch, const ScanPlan *plan) {
  if (plan->outer == 0 || plan->n == 0 || plan->inner == 0) return cudaSuccess;
  const bool sum = plan->rule.op == SCAN_SUM;
  return with_element(plan->dtype, [&](auto element) {
    using T = decltype(element);
    if constexpr (is_integer<T>) {
      return sum ? scan<IntegerSum, T, int64_t>(launch, *plan) : scan<IntegerProduct, T, int64_t>(launch, *plan);
    } else {
      return sum ? scan<FloatSum, T, T>(launch, *plan) : scan<FloatProduct, T, T>(launch, *plan);
    }
  });
}
