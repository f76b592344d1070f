/* What comes after a product in float32: scaling, biasing and rounding it; and what comes after one with a triangle. */
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

__global__ void __launch_bounds__(BLOCK) finish_product_kernel(const __grid_constant__ FinishPlan plan) {
  const int64_t count = plan.rows * plan.columns;
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    const int64_t row = divide(i, plan.columns), column = i - row * plan.columns;
    float value = plan.product ? plan.product[i] : 0.0f;
    if (plan.scale_a) value = value * plan.scale_a[row * plan.row_step] * plan.scale_b[column * plan.column_step];
    if (plan.bias) value += load_float(plan.bias, plan.dtype, column);
    store_float(plan.out, plan.dtype, i, value);
  }
}

/* --- columns of a product with a triangle, once more where b is not finite in them --- */

enum { COLUMNS = 32, TURNS = 8 };

__device__ inline float load_operand(const TriangleOperand &x, int64_t batch, int64_t row, int64_t column) {
  return load_float(x.data, x.dtype, batch * x.batch + row * x.row + column * x.column);
}

/* One column, of which each thread of the block takes some rows. */
__device__ inline void compute_column(const TrianglePlan &plan, int64_t batch, int64_t column) {
  const int thread = threadIdx.y * COLUMNS + threadIdx.x;
#pragma unroll 1
  for (int64_t row = thread; row < plan.rows; row += COLUMNS * TURNS) {
    const int64_t diagonal = row + plan.inner - plan.rows;
    const int64_t begin = plan.lower || diagonal < 0 ? 0 : diagonal, end = plan.lower ? diagonal + 1 : plan.inner;
    float sum = 0.0f;
#pragma unroll 1
    for (int64_t i = begin; i < end; i++) {
      sum += load_operand(plan.a, batch, row, i) * load_operand(plan.b, batch, i, column);
    }
    store_float(plan.out, plan.dtype, (batch * plan.rows + row) * plan.columns + column, sum);
  }
}

/* A thread block of 32 × 8 takes 32 columns of one matrix: b is read once, and nothing else is done as a rule. */
__global__ void __launch_bounds__(COLUMNS *TURNS)
    mend_triangle_kernel(const __grid_constant__ TrianglePlan plan, int64_t strips) {
  __shared__ bool broken[COLUMNS];
  for (int64_t turn = blockIdx.x; turn < plan.batch * strips; turn += gridDim.x) {
    const int64_t batch = turn / strips, first = (turn - batch * strips) * COLUMNS, column = first + threadIdx.x;
    bool finite = true;
    if (column < plan.columns) {
      with_scalar(plan.b.dtype, [&](auto scalar) {
        const int64_t start = batch * plan.b.batch + column * plan.b.column;
#pragma unroll 8
        for (int64_t i = threadIdx.y; i < plan.inner; i += TURNS) {
          float value[1];
          load_as<decltype(scalar)>(plan.b.data, start + i * plan.b.row, value);
          finite = finite & (bool)isfinite(value[0]);
        }
      });
    }
    if (!__syncthreads_or(!finite)) continue;
    if (threadIdx.y == 0) broken[threadIdx.x] = false;
    __syncthreads();
    if (!finite) broken[threadIdx.x] = true;
    __syncthreads();
    for (int k = 0; k < COLUMNS; k++) {
      if (broken[k]) compute_column(plan, batch, first + k);
    }
    __syncthreads(); /* before `broken` is written again */
  }
}

} // namespace

extern "C" cudaError_t launch_finish_product(Launch launch, const FinishPlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  const int grid = grid_size(launch, plan->rows * plan->columns, BLOCK, 64);
  finish_product_kernel<<<grid, BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_mend_triangle(Launch launch, const TrianglePlan *plan) {
  if (plan->batch == 0 || plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  const int64_t strips = divide_up(plan->columns, (int64_t)COLUMNS);
  const int grid = grid_size(launch, plan->batch * strips, 1, 64);
  mend_triangle_kernel<<<grid, dim3(COLUMNS, TURNS), 0, launch.stream>>>(*plan, strips);
  return cudaGetLastError();
}
