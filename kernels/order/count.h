/* The launcher of histogram, with its descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_COUNT_H
#define FP8_KERNELS_ORDER_COUNT_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* backend.h, histogram. Adds to `counts`, which are 0. */
typedef struct HistogramPlan {
  unsigned long long *counts;
  const void *x;
  DType dtype;
  int64_t count, bins;
  const float *edges;
} HistogramPlan;
cudaError_t launch_histogram(Launch launch, const HistogramPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
