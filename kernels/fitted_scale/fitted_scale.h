/* The launcher of fitted scales, with its descriptor. */
#ifndef FP8_KERNELS_FITTED_SCALE_H
#define FP8_KERNELS_FITTED_SCALE_H

#include "core/formats/fit.h"
#include "quantize/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parts of a block that one thread block reads one after the other. */
enum { FITTED_FEW_PARTS = 8 };

/* backend.h, fitted_scale. */
typedef struct FittedPlan {
  QuantizePlan quantize; /* the rule, the blocks and x; the format as a map, or a grid and rule.limit */
  FitRule fit;
  float *scale;
  int64_t blocks, length;                                       /* elements of a block that is not short */
  int64_t rows, columns, tile_rows, tile_columns, tiles_across; /* 0 for blocks in row-major order */
  FitGrid grid;                                                 /* of a format that has one */
  float bound;   /* scaled numbers up to this round to the grid's largest at most */
  bool vectors;  /* every eight neighbours of a block are neighbours in memory, at a multiple of 16 bytes */
  bool whole;    /* no block in row-major order is shorter than the others */
  bool usual;    /* there are candidates, and scales of an absmax alone, not rounded or in E4M3 */
  bool looks_up; /* a map's nearest entries, of numbers between its first and its last one */
  int64_t parts; /* of a block longer than FIT_SHORT */
  /* Of blocks in more than FITTED_FEW_PARTS: room for what `parts` parts of each add up to, for two words of each block,
   * and, where there are candidates, for FIT_CANDIDATES_MOST times `parts` errors of each; else NULL. */
  FitSums *sums;
  uint32_t *magnitudes;
  float *errors;
} FittedPlan;
cudaError_t launch_fitted_scale(Launch launch, const FittedPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
