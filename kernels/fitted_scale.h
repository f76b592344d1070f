/* The launcher of fitted scales, with its descriptor. */
#ifndef FP8_KERNELS_FITTED_SCALE_H
#define FP8_KERNELS_FITTED_SCALE_H

#include "core/formats/fit.h"
#include "quantize/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* backend.h, fitted_scale. */
typedef struct FittedPlan {
  QuantizePlan quantize; /* the rule, the blocks and x; the format as a map, or a grid and rule.limit */
  FitRule fit;
  float *scale;
  int64_t blocks, length;                                       /* elements of a block that is not short */
  int64_t rows, columns, tile_rows, tile_columns, tiles_across; /* 0 for blocks in row-major order */
  int lanes;
  /* Of blocks in several parts: room for what `parts` parts of each add up to, for the blocks' magnitudes, and, where there
   * are candidates, for FIT_CANDIDATES_MOST errors of each part; else NULL. */
  FitSums *sums;
  uint32_t *magnitudes;
  double *errors;
  int64_t parts;
} FittedPlan;
cudaError_t launch_fitted_scale(Launch launch, const FittedPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
