/* What launch_quantize_ways and launch_measure_ways (ways.h) leave to kernels of 16-bit matrices that patches of 64 columns
 * divide, and of 32 or 64 rows, for values of the same dtype; to be measured, of 16 rows, too. */
#ifndef FP8_KERNELS_QUANTIZE_NARROW_H
#define FP8_KERNELS_QUANTIZE_NARROW_H

#include "quantize/ways.h"

/* The warps of a patch; 0 where a quantization is not for these kernels. */
int narrow_team(const WaysPlan &plan);
bool quantizes_narrow(const WaysPlan &plan);
cudaError_t launch_quantize_narrow(Launch launch, const WaysPlan &plan);

bool measures_narrow(const WaysPlan &plan);
/* As measure_ways_shape. */
int measure_narrow_shape(Launch launch, WaysPlan &plan);
cudaError_t launch_measure_narrow(Launch launch, const WaysPlan &plan);

#endif
