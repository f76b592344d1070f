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
  QuantizePlan quantize; /* the format, the rule, the blocks and x; nothing that is written */
  FitRule fit;
  float *scale;
  int64_t blocks, length;                                       /* elements of a block that is not short */
  int64_t rows, columns, tile_rows, tile_columns, tiles_across; /* 0 for blocks in row-major order */
  int lanes;
  FitSums *sums; /* of blocks in several parts: room for those of `parts` parts for each; else NULL */
  int64_t parts;
} FittedPlan;
cudaError_t launch_fitted_scale(Launch launch, const FittedPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
