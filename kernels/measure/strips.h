/* Column sums by clusters of thread blocks. */
#ifndef FP8_KERNELS_MEASURE_STRIPS_H
#define FP8_KERNELS_MEASURE_STRIPS_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Column sums of a plan's matrix, which has many columns, into `out` at once. cudaErrorNotSupported: nothing was launched, since
 * the device has no clusters, or the matrix has too many rows or too few columns. */
cudaError_t launch_sum_strips(Launch launch, const MeasurePlan *plan, void *out, DType dtype);

#ifdef __cplusplus
}
#endif

#endif
