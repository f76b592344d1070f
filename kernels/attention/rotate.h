/* The launcher of rotary position embedding, with its descriptor (kernels.h). */
#ifndef FP8_KERNELS_ROTATE_H
#define FP8_KERNELS_ROTATE_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* (outer, positions, inner, 2 · pairs), contiguous, of f32, f16 or bf16; no size is 0. */
typedef struct RotatePlan {
  DType dtype;
  void *out;
  const void *x;
  int64_t outer, positions, inner, pairs;
  Rotation rotation;
} RotatePlan;

cudaError_t launch_rotate(Launch launch, const RotatePlan *plan);

#ifdef __cplusplus
}
#endif

#endif
