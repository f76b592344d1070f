/* The launcher of nonzero, with its descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_SELECT_H
#define FP8_KERNELS_ORDER_SELECT_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many flags are not 0, where there is a `total` for it; else their coordinates. Where `scratch` is NULL, only says in
 * *bytes how much of it is needed. */
typedef struct NonzeroPlan {
  int64_t *total, *out;
  const uint8_t *flags;
  int64_t count; /* of flags */
  int rank;      /* at least 1 */
  int64_t size[KERNEL_MAX_RANK];
} NonzeroPlan;
cudaError_t launch_nonzero(Launch launch, const NonzeroPlan *plan, void *scratch, size_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
