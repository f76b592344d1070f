/* Scales as cuBLASLt reads them, and products of 128 terms at a time, which are scaled before they are added. */
#include "common.cuh"
#include "scaled_matmul/scaled_matmul.h"

namespace {

enum { BLOCK = 256 };

__device__ inline float scale_at(const float *scale, const ScaleGrid &grid, int64_t element, int64_t run) {
  return scale[(grid.rows_each == 1 ? element : element / grid.rows_each) * grid.row_step + run * grid.run_step];
}

struct ArrangePlan {
  ArrangeJob job[ARRANGE_JOBS_MOST];
};

/* Jobs along y. Neighbouring threads write neighbours. */
__global__ void __launch_bounds__(BLOCK) arrange_scales_kernel(const __grid_constant__ ArrangePlan plan) {
  const ArrangeJob &job = plan.job[blockIdx.y];
  const bool rows_inside = job.row_step == 1;
  const int64_t inner = rows_inside ? job.padded_rows : job.runs;
  for (int64_t i = global_thread(); i < job.padded_rows * job.runs; i += global_threads()) {
    const int64_t outer = divide(i, inner), rest = i - outer * inner;
    const int64_t row = rows_inside ? rest : outer, run = rows_inside ? outer : rest;
    const float value = row < job.rows ? scale_at(job.from, job.grid, row * job.rows_each, run) : 0.0f;
    job.to[row * job.row_step + run * job.run_step] = value;
  }
}

__global__ void __launch_bounds__(BLOCK) add_run_kernel(const __grid_constant__ AddRunPlan plan) {
  for (int64_t i = global_thread(); i < plan.rows * plan.columns; i += global_threads()) {
    const int64_t row = divide(i, plan.columns), column = i - row * plan.columns;
    const float value = plan.sums[i] * scale_at(plan.scale_a, plan.grid_a, row, plan.run) *
                        scale_at(plan.scale_b, plan.grid_b, column, plan.run);
    plan.total[i] = plan.run == 0 ? value : plan.total[i] + value;
  }
}

} // namespace

extern "C" cudaError_t launch_arrange_scales(Launch launch, const ArrangeJob *jobs, int count) {
  ArrangePlan plan = {};
  int64_t most = 0;
  for (int i = 0; i < count; i++) {
    plan.job[i] = jobs[i];
    const int64_t scales = jobs[i].padded_rows * jobs[i].runs;
    if (scales > most) most = scales;
  }
  if (most == 0) return cudaSuccess;
  const dim3 grid(grid_size(launch, most, BLOCK, 16), count);
  arrange_scales_kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_add_run(Launch launch, const AddRunPlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  add_run_kernel<<<grid_size(launch, plan->rows * plan->columns, BLOCK, 64), BLOCK, 0, launch.stream>>>(*plan);
  return cudaGetLastError();
}
