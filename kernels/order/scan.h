/* The launcher of running sums and products, with its descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_SCAN_H
#define FP8_KERNELS_ORDER_SCAN_H

#include "core/order/scan.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Contiguous (outer, n, inner); out of x's dtype, or i64 for integers. The dimension is cut into `slices` of `slice`
 * elements, whose totals are found first where there are several. */
typedef struct ScanPlan {
  ScanRule rule;
  void *out;
  const void *x;
  DType dtype;
  int64_t outer, n, inner;
  int64_t slices, slice;
  void *starts; /* SCAN_STATE_BYTES for each of outer · slices · inner, if slices > 1 */
} ScanPlan;

enum { SCAN_STATE_BYTES = 16 };

/* Fills in slices and slice. */
void scan_shape(ScanPlan *plan);
cudaError_t launch_scan(Launch launch, const ScanPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
