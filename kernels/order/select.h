/* The launchers of nonzero, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_SELECT_H
#define FP8_KERNELS_ORDER_SELECT_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct NonzeroPlan {
  const uint8_t *flags;
  int64_t count; /* of flags */
  int64_t *out;
  int rank; /* at least 1 */
  int64_t size[KERNEL_MAX_RANK];
} NonzeroPlan;

/* *out = how many flags are not 0. */
cudaError_t launch_count_flags(Launch launch, const NonzeroPlan *plan);
/* out = their coordinates. Where `scratch` is NULL, only says in *bytes how much of it is needed. */
cudaError_t launch_nonzero(Launch launch, const NonzeroPlan *plan, void *scratch, size_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
