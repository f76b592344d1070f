/* One pass over a matrix for its largest magnitude, its column sums, or both; of few rows, sums in a single launch.
 *
 * For sums, a thread takes one 16-byte vector of columns and walks down the rows, eight of which a thread block has at
 * once; thread blocks share the rows of a strip of 32 vectors. Sums of up to 256 rows are float32, and so are those of
 * a thread block's eight; finish_sum adds the thread blocks' in double. The order never depends on timing. */
#include "following.cuh"
#include "measure/rows.cuh"

namespace {

enum { FINISH_ROWS = 32 };

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK, 4) measure_kernel(const uint4 *x, int64_t vectors, uint32_t *maxima) {
  uint32_t largest = 0;
  const int64_t step = (int64_t)gridDim.x * BLOCK * ROWS_IN_FLIGHT;
  for (int64_t first = (int64_t)blockIdx.x * BLOCK * ROWS_IN_FLIGHT + threadIdx.x; first < vectors; first += step) {
    uint4 raw[ROWS_IN_FLIGHT];
    if (first + (ROWS_IN_FLIGHT - 1) * BLOCK < vectors) {
#pragma unroll
      for (int v = 0; v < ROWS_IN_FLIGHT; v++) raw[v] = x[first + v * BLOCK];
    } else {
#pragma unroll
      for (int v = 0; v < ROWS_IN_FLIGHT; v++) {
        raw[v] = make_uint4(0, 0, 0, 0);
        if (first + v * BLOCK < vectors) raw[v] = x[first + v * BLOCK];
      }
    }
#pragma unroll
    for (int v = 0; v < ROWS_IN_FLIGHT; v++) largest = raise<Scalar>(largest, raw[v]);
  }
  write_maximum<BLOCK>(maxima, magnitude_bits(largest, Scalar()));
}

/* across: the vectors of a row. */
template <typename Scalar, bool MAXIMUM>
__global__ void __launch_bounds__(BLOCK, 4)
    measure_columns_kernel(const __grid_constant__ MeasurePlan plan, int across) {
  constexpr int width = vector_width<Scalar>;
  __shared__ __align__(16) float shared[BLOCK / WARP][WARP][width + 1];
  let_next_start();
  const int lane = threadIdx.x % WARP, row_in_block = threadIdx.x / WARP;
  const int strip = blockIdx.x % plan.strips, row_group = blockIdx.x / plan.strips;
  const int column = strip * WARP + lane;
  const bool active = column < across;
  const int64_t step = (int64_t)plan.row_groups * (BLOCK / WARP);
  const uint4 *x = static_cast<const uint4 *>(plan.x) + column;
  float sum[width] = {};
  uint32_t largest = 0;
  int64_t row = (int64_t)row_group * (BLOCK / WARP) + row_in_block;
  while (active && row < plan.rows) {
    uint4 raw[ROWS_IN_FLIGHT];
    load_rows(raw, x + row * across, row, step, plan.rows, across);
    row += ROWS_IN_FLIGHT * step;
    add_rows<Scalar>(sum, raw);
#pragma unroll
    for (int i = 0; i < ROWS_IN_FLIGHT && MAXIMUM; i++) largest = raise<Scalar>(largest, raw[i]);
  }
  if (MAXIMUM) write_maximum<BLOCK>(plan.maxima, magnitude_bits(largest, Scalar()));
#pragma unroll
  for (int k = 0; k < width; k++) shared[row_in_block][lane][k] = sum[k];
  __syncthreads();
  /* Neighbouring threads take neighbouring columns, of which there are at most as many as threads. */
  const int own = threadIdx.x / width, k = threadIdx.x % width;
  if (own >= WARP || strip * WARP + own >= across) return;
  float total = shared[0][own][k];
  for (int i = 1; i < BLOCK / WARP; i++) total += shared[i][own][k];
  plan.partials[row_group * plan.columns + (int64_t)(strip * WARP + own) * width + k] = total;
}

/* A thread block has 32 columns to itself, with one vector of them and every rows_at_once-th row to a thread. */
template <typename Scalar>
__global__ void __launch_bounds__(BLOCK)
    sum_few_rows_kernel(const uint4 *x, int rows, int across, void *out, DType dtype) {
  constexpr int width = vector_width<Scalar>, lanes = WARP / width, rows_at_once = BLOCK / lanes;
  __shared__ float shared[BLOCK / WARP][WARP];
  const int lane = threadIdx.x % lanes, column = blockIdx.x * lanes + lane;
  float sum[width] = {};
  for (int row = threadIdx.x / lanes; column < across && row < rows; row += rows_at_once * ROWS_IN_FLIGHT) {
    uint4 raw[ROWS_IN_FLIGHT];
    load_rows(raw, x + (int64_t)row * across + column, row, rows_at_once, rows, across);
    add_rows<Scalar>(sum, raw);
  }
#pragma unroll
  for (int k = 0; k < width; k++) {
#pragma unroll
    for (int mask = lanes; mask < WARP; mask *= 2) sum[k] += shuffle_xor(sum[k], mask);
    if (threadIdx.x % WARP < lanes) shared[threadIdx.x / WARP][lane * width + k] = sum[k];
  }
  __syncthreads();
  const int64_t own = (int64_t)blockIdx.x * WARP + threadIdx.x;
  if (threadIdx.x >= WARP || own >= (int64_t)across * width) return;
  double total = 0;
#pragma unroll
  for (int i = 0; i < BLOCK / WARP; i++) total += shared[i][threadIdx.x];
  store_double(out, dtype, own, total);
}

/* Thread blocks of 32 columns, WIDTH of them to a thread, and 32 threads that take turns at their terms. */
template <int WIDTH>
__global__ void __launch_bounds__(WARP / WIDTH * FINISH_ROWS) finish_sum_kernel(const FinishSumPlan plan) {
  __shared__ double shared[FINISH_ROWS][WARP];
  const int64_t column = (int64_t)blockIdx.x * WARP + threadIdx.x * WIDTH;
  double sum[WIDTH] = {};
  wait_for_previous();
  if (column < plan.columns) {
    /* Sums side by side in a row are rows of `columns` themselves. */
    const int64_t terms = plan.rows * (plan.width / plan.columns);
    const float *partial = plan.partials + column;
#pragma unroll 8
    for (int64_t i = threadIdx.y; i < terms; i += FINISH_ROWS) {
      const auto term = *reinterpret_cast<const Packed<float, WIDTH> *>(partial + i * plan.columns);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) sum[k] += term.element[k];
    }
  }
#pragma unroll
  for (int k = 0; k < WIDTH; k++) shared[threadIdx.y][threadIdx.x * WIDTH + k] = sum[k];
  __syncthreads();
  const int own = threadIdx.y * (WARP / WIDTH) + threadIdx.x;
  const int64_t out = (int64_t)blockIdx.x * WARP + own;
  if (own >= WARP || out >= plan.columns) return;
  double total = 0;
  for (int i = 0; i < FINISH_ROWS; i++) total += shared[i][own];
  store_double(plan.out, plan.dtype, out, total);
}

template <int WIDTH> cudaError_t run_finish(Launch launch, const FinishSumPlan &plan) {
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((unsigned)divide_up(plan.columns, (int64_t)WARP));
  config.blockDim = dim3(WARP / WIDTH, FINISH_ROWS);
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = has_hopper_code<finish_sum_kernel<WIDTH>>() ? 1 : 0;
  return cudaLaunchKernelEx(&config, finish_sum_kernel<WIDTH>, plan);
}

template <typename Scalar> cudaError_t run_few_rows(Launch launch, const MeasurePlan &plan, void *out, DType dtype) {
  const int across = vector_columns(plan);
  const int grid = (int)divide_up(plan.columns, WARP);
  sum_few_rows_kernel<Scalar>
      <<<grid, BLOCK, 0, launch.stream>>>(static_cast<const uint4 *>(plan.x), (int)plan.rows, across, out, dtype);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run(Launch launch, const MeasurePlan &plan) {
  const int grid = plan.strips * plan.row_groups;
  const int across = vector_columns(plan);
  if (plan.summing) {
    const auto kernel = plan.maxima ? measure_columns_kernel<Scalar, true> : measure_columns_kernel<Scalar, false>;
    kernel<<<grid, BLOCK, 0, launch.stream>>>(plan, across);
  } else {
    measure_kernel<Scalar>
        <<<grid, BLOCK, 0, launch.stream>>>(static_cast<const uint4 *>(plan.x), plan.rows * across, plan.maxima);
  }
  return cudaGetLastError();
}

} // namespace

extern "C" void measure_shape(MeasurePlan *plan, int multiprocessors) {
  const int across = vector_columns(*plan);
  plan->strips = divide_up(across, WARP);
  const int64_t turns = divide_up(plan->rows, BLOCK / WARP); /* of one thread block for all rows */
  const int64_t wanted = divide_up((int64_t)multiprocessors * 4, plan->strips);
  const int64_t least = plan->summing ? divide_up(turns, LONGEST_CHAIN) : 1;
  const int64_t groups = wanted > least ? wanted : least;
  plan->row_groups = (int)(groups < turns ? groups : turns);
}

extern "C" cudaError_t launch_measure(Launch launch, const MeasurePlan *plan) {
  return with_scalar(plan->dtype, [&](auto scalar) { return run<decltype(scalar)>(launch, *plan); });
}

extern "C" cudaError_t launch_finish_sum(Launch launch, const FinishSumPlan *plan) {
  enum { WIDTH = 4 };
  if (plan->columns == 0) return cudaSuccess;
  const bool vectors = plan->columns % WIDTH == 0 && (uintptr_t)plan->partials % (WIDTH * sizeof(float)) == 0;
  return vectors ? run_finish<WIDTH>(launch, *plan) : run_finish<1>(launch, *plan);
}

extern "C" cudaError_t launch_sum_few_rows(Launch launch, const MeasurePlan *plan, void *out, DType dtype) {
  return with_scalar(plan->dtype,
                     [&](auto scalar) { return run_few_rows<decltype(scalar)>(launch, *plan, out, dtype); });
}
