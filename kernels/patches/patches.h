/* The launchers of patches and pooling, with their descriptors (kernels.h). */
#ifndef FP8_KERNELS_PATCHES_H
#define FP8_KERNELS_PATCHES_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* backend.h, unfold and fold: x contiguous, and six strides of the patches. */
typedef struct PatchesPlan {
  Window window;
  int64_t images, channels;
  int64_t stride[6];
} PatchesPlan;

/* Words of so many bytes. The patches of an image lie side by side, or the elements of a patch. */
cudaError_t launch_unfold(Launch launch, void *out, const void *x, int word_bytes, const PatchesPlan *plan);
cudaError_t launch_unfold_rows(Launch launch, void *out, const void *x, int word_bytes, const PatchesPlan *plan);
cudaError_t launch_fold(Launch launch, void *out, const void *patches, DType dtype, const PatchesPlan *plan);

/* Of so many planes, images · channels; backward from `in`, dy, to `out`, dx. index may be NULL in the forward pass. */
typedef struct PoolPlan {
  PoolRule rule;
  void *out;
  const void *in;
  int64_t *index;
  DType dtype;
  int64_t planes;
} PoolPlan;
cudaError_t launch_pool(Launch launch, const PoolPlan *plan);
cudaError_t launch_pool_backward(Launch launch, const PoolPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
