/* Matrices with zeros to their right and below, for products that take only multiples of 16. */
#include "common.cuh"
#include "scaled_matmul/scaled_matmul.h"

namespace {

enum { BLOCK = 256, RUN = 16 };

struct PadPlan {
  PadJob job[PAD_JOBS_MOST];
};

/* The bytes of a row from `column` on that a run of the copy holds. */
__device__ inline uint4 padded_run(const PadJob &job, int64_t row, int64_t column) {
  uint32_t word[4] = {};
  if (row < job.rows) {
    const uint8_t *from = static_cast<const uint8_t *>(job.from) + row * job.bytes + column;
    const int count = (int)min(job.bytes - column, (int64_t)RUN); /* negative beyond the end */
#pragma unroll
    for (int i = 0; i < RUN; i++) {
      if (i < count) word[i / 4] |= (uint32_t)from[i] << 8 * (i % 4);
    }
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

/* Jobs along y. */
__global__ void __launch_bounds__(BLOCK) pad_kernel(const __grid_constant__ PadPlan plan) {
  const PadJob &job = plan.job[blockIdx.y];
  const int64_t runs = job.padded_bytes / RUN;
  for (int64_t i = global_thread(); i < job.padded_rows * runs; i += global_threads()) {
    const int64_t row = divide(i, runs), run = i - row * runs;
    static_cast<uint4 *>(job.to)[i] = padded_run(job, row, run * RUN);
  }
}

} // namespace

extern "C" cudaError_t launch_pad(Launch launch, const PadJob *jobs, int count) {
  PadPlan plan = {};
  int64_t most = 0;
  for (int i = 0; i < count; i++) {
    plan.job[i] = jobs[i];
    const int64_t runs = jobs[i].padded_rows * (jobs[i].padded_bytes / RUN);
    if (runs > most) most = runs;
  }
  if (most == 0) return cudaSuccess;
  pad_kernel<<<dim3(grid_size(launch, most, BLOCK, 16), count), BLOCK, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}
