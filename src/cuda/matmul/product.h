/* Matrix products by cuBLASLt, in row-major terms. */
#ifndef FP8_CUDA_PRODUCT_H
#define FP8_CUDA_PRODUCT_H

#include "cuda/cuda.h"

/* The scales of a float8 operand: none; one number; or for what is summed, one for each of the other dimension's elements,
 * in a vector, one for every 128 terms of each, or one for every 128 terms of 128 of them. */
typedef enum ProductScales { SCALES_NONE, SCALES_ONE, SCALES_VECTOR, SCALES_RUNS, SCALES_SQUARES } ProductScales;

/* One operand as it lies in memory: contiguous rows (stride 1 along the last dimension), or its transpose. */
typedef struct ProductOperand {
  const void *data;
  DType dtype;
  bool transposed;      /* stride 1 along the dimension before the last */
  int64_t leading;      /* stride of the other dimension, in elements */
  int64_t batch;        /* stride between matrices; may be 0 */
  ProductScales scales; /* vectors go with vectors; runs with runs and squares */
  /* On the device, of `elements` rows of a or columns of b: SCALES_RUNS (⌈k / 128⌉, elements), SCALES_SQUARES
   * (⌈elements / 128⌉, ⌈k / 128⌉) with rows of a multiple of 4, both at a multiple of 16 bytes. */
  const float *scale;
} ProductOperand;

/* out (batch, m, n) = a (batch, m, k) · b (batch, k, n), with out contiguous and none of the sizes 0. */
typedef struct CublasProduct {
  int64_t m, n, k, batch;
  ProductOperand a, b;
  void *out;
  DType out_dtype;
  const void *bias; /* (n) of out_dtype, or NULL */
  bool fast;        /* backend.h, scaled_matmul; not with runs */
  bool adds;        /* out (f32) = out + a · b */
} CublasProduct;

typedef enum ProductStatus {
  PRODUCT_DONE,
  PRODUCT_UNSUPPORTED, /* cuBLASLt has no algorithm for it */
  PRODUCT_FAILED       /* with an error */
} ProductStatus;

/* Enqueues the product. */
ProductStatus product_run(CudaDevice *device, const CublasProduct *product);

#endif
