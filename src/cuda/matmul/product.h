/* Matrix products by cuBLASLt, in row-major terms. */
#ifndef FP8_CUDA_PRODUCT_H
#define FP8_CUDA_PRODUCT_H

#include "cuda/cuda.h"

/* One operand as it lies in memory: contiguous rows (stride 1 along the last dimension), or its transpose. */
typedef struct ProductOperand {
  const void *data;
  DType dtype;
  bool transposed; /* stride 1 along the dimension before the last */
  int64_t leading; /* stride of the other dimension, in elements */
  int64_t batch;   /* stride between matrices; may be 0 */
  const float
      *scale; /* on the device, for float8: one number, or a vector where the product has scale_vectors; else NULL */
} ProductOperand;

/* out (batch, m, n) = a (batch, m, k) · b (batch, k, n), with out contiguous and none of the sizes 0. */
typedef struct CublasProduct {
  int64_t m, n, k, batch;
  ProductOperand a, b;
  void *out;
  DType out_dtype;
  const void *bias;   /* (n) of out_dtype, or NULL */
  bool scale_vectors; /* a.scale has m elements and b.scale n */
  bool fast;          /* backend.h, scaled_matmul */
  bool adds;          /* out (f32) = out + a · b */
} CublasProduct;

typedef enum ProductStatus {
  PRODUCT_DONE,
  PRODUCT_UNSUPPORTED, /* cuBLASLt has no algorithm for it */
  PRODUCT_FAILED       /* with an error */
} ProductStatus;

/* Enqueues the product. */
ProductStatus product_run(CudaDevice *device, const CublasProduct *product);

#endif
