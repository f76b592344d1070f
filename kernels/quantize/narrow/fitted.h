/* Quantization in small blocks whose scales are fitted (core/formats/fit.h): what ways.h has, where patches divide the matrix
 * (narrow.h). A patch's scales are chosen while it waits in shared memory to be rounded. */
#ifndef FP8_KERNELS_QUANTIZE_NARROW_FITTED_H
#define FP8_KERNELS_QUANTIZE_NARROW_FITTED_H

#include "core/formats/fit.h"
#include "quantize/ways.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct FittedWay {
  FitRule rule;
  FitGrid grid;
  float bound; /* scaled numbers up to this round to the grid's largest at most */
} FittedWay;

typedef struct FittedWaysPlan {
  WaysPlan ways;
  FittedWay fit[WAYS_MOST];
} FittedWaysPlan;

/* Takes ways that quantizes_in_patches. */
cudaError_t launch_quantize_fitted(Launch launch, const FittedWaysPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
