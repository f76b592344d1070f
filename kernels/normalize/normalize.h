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

/* Where the gradient of one goes; data NULL for nowhere. */
typedef struct NormalizeTotal {
  void *data;
  DType dtype;
} NormalizeTotal;

typedef struct NormalizePlan {
  MatrixRows x;
  const void *addend; /* of x's dtype, with `sum`, where x + addend goes; or NULL */
  void *sum;
  void *out; /* of x's dtype */
  NormalizeParameter weight, bias;
  float *mean, *inverse; /* a RowMean and one a row; mean is NULL for root mean square normalization */
  float epsilon;
  uint32_t *maxima; /* a word for each of normalize_grid's thread blocks: of what it wrote; or NULL */
} NormalizePlan;
/* 0 where rows are not held in registers: then there must be no addend, and no maxima are found. */
int normalize_grid(const NormalizePlan *plan, int multiprocessors);
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
  bool held;        /* rows are held in registers, by as many thread blocks as there are partial rows */
  uint32_t *maxima; /* if held, a word for each of them: of the part of dx that it wrote; or NULL */
} NormalizeBackwardPlan;
/* Fills in partial_rows and held. */
void normalize_backward_shape(NormalizeBackwardPlan *plan, int multiprocessors);
cudaError_t launch_normalize_backward(Launch launch, const NormalizeBackwardPlan *plan);

/* Channels of (images, channels, elements), of which `splits` thread blocks take parts of `chunk` elements each. */
typedef struct ChannelsPlan {
  const void *x, *dy; /* dy: NULL in the forward pass */
  void *out;          /* y, or dx; NULL where that is not wanted */
  DType dtype, dy_dtype;
  int64_t images, channels, elements;
  bool vectorize; /* runs of a channel's elements, of both tensors, are whole vectors of 16 bytes; one dtype */
  int64_t splits, chunk;
  NormalizeParameter weight, bias;
  float *mean, *inverse; /* a RowMean and one a channel */
  float *variance;       /* NULL in the backward pass */
  double epsilon;
  NormalizeTotal weight_grad, bias_grad;
  void *partials; /* channels · splits pairs of double: sums of a part */
} ChannelsPlan;
/* Fills in vectorize, splits and chunk. */
void channels_shape(ChannelsPlan *plan, int multiprocessors);
cudaError_t launch_channels(Launch launch, const ChannelsPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
