/* The launcher of searchsorted, with its descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_SEARCH_H
#define FP8_KERNELS_ORDER_SEARCH_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* backend.h, searchsorted: `sorted` of lists that are `length` long, one for each `columns` of `count` values. */
typedef struct SearchPlan {
  int64_t *out;
  const void *sorted, *values;
  bool integers; /* i64, else f32 */
  DType dtype;   /* of the values */
  int64_t count, columns, length;
  bool right;
} SearchPlan;
cudaError_t launch_searchsorted(Launch launch, const SearchPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
