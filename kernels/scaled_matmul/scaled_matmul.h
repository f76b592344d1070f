/* The launchers of what products of codes need, with their descriptors (kernels.h has those that others need too). */
#ifndef FP8_KERNELS_SCALED_MATMUL_H
#define FP8_KERNELS_SCALED_MATMUL_H

#include "core/formats/scale_grid.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A copy of `rows` rows of `bytes` with zeros around it: padded_rows rows of padded_bytes, a multiple of 16. */
typedef struct PadJob {
  const void *from;
  void *to;
  int64_t rows, bytes, padded_rows, padded_bytes;
} PadJob;
enum { PAD_JOBS_MOST = 3 };
cudaError_t launch_pad(Launch launch, const PadJob *jobs, int count);

/* The scales of a grid one after another, by elements or by runs: to[row · row_step + run · run_step] for rows < padded_rows
 * and runs < grid.runs, or `runs` if that grid has but one for all. With a 0 for rows from `rows` on. */
typedef struct ArrangeJob {
  const float *from;
  ScaleGrid grid;
  float *to;
  int64_t rows_each; /* elements that a row of `to` stands for */
  int64_t rows, padded_rows, runs;
  int64_t row_step, run_step;
} ArrangeJob;
enum { ARRANGE_JOBS_MOST = 2 };
cudaError_t launch_arrange_scales(Launch launch, const ArrangeJob *jobs, int count);

/* total[r][c] = sums[r][c] · a's scale · b's scale of a run, plus total[r][c] before unless it is the first. */
typedef struct AddRunPlan {
  float *total;
  const float *sums; /* may be total */
  int64_t rows, columns, run;
  const float *scale_a, *scale_b;
  ScaleGrid grid_a, grid_b;
} AddRunPlan;
cudaError_t launch_add_run(Launch launch, const AddRunPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
