/* The launchers of normalization, with their descriptors (kernels.h): f32, f16 or bf16. */
#ifndef FP8_KERNELS_NORMALIZE_H
#define FP8_KERNELS_NORMALIZE_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A weight or bias: f32 or of x's dtype; data NULL for none. */
typedef struct NormalizeParameter {
  const void *data;
  DType dtype;
} NormalizeParameter;

typedef struct NormalizePlan {
  MatrixRows x;
  void *out; /* of x's dtype */
  NormalizeParameter weight, bias;
  float *mean, *inverse; /* a RowMean and one a row; mean is NULL for root mean square normalization */
  float epsilon;
} NormalizePlan;
cudaError_t launch_normalize(Launch launch, const NormalizePlan *plan);

typedef struct NormalizeBackwardPlan {
  MatrixRows x;
  const void *dy;
  DType dy_dtype;
  void *dx;           /* of x's dtype, or NULL */
  const void *addend; /* of x's dtype, added to dx; or NULL */
  NormalizeParameter weight;
  const float *mean, *inverse;
  /* Sums of dy · (x - mean) · inverse and of dy, a row of columns for each part of the matrix's rows; or NULL. */
  float *weight_partials, *bias_partials;
  int partial_rows;
} NormalizeBackwardPlan;
/* Fills in partial_rows. */
void normalize_backward_shape(NormalizeBackwardPlan *plan, int multiprocessors);
cudaError_t launch_normalize_backward(Launch launch, const NormalizeBackwardPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
