/* The parts that products of matrices are made of. */
#ifndef FP8_CPU_MATMUL_PRODUCT_H
#define FP8_CPU_MATMUL_PRODUCT_H

#include "backend.h"

/* A batch of matrices whose elements are contiguous along rows, or, if `transposed`, along columns. */
typedef struct Matrix {
  const void *data;
  DType dtype;
  int64_t batch, rows, columns;
  int64_t stride;       /* in elements, from one row (transposed: column) to the next */
  int64_t batch_stride; /* 0 where one matrix serves the whole batch */
  bool transposed;
} Matrix;

/* out[i] = a[i] · b[i] + bias: out is contiguous; bias has its dtype and length b.columns, or is NULL. */
typedef struct Product {
  Matrix a, b;
  void *out;
  const void *bias;
  DType out_dtype;
  bool adds; /* out[i] = out[i] + a[i] · b[i]: out is f32, and there is no bias */
} Product;

/* f32 only, through OpenBLAS. */
bool product_f32(const Product *product);

typedef enum ProductResult { PRODUCT_DONE, PRODUCT_UNSUPPORTED, PRODUCT_FAILED } ProductResult;

/* f16 and bf16, with output of the same type or f32, through oneDNN; accumulates in float32. PRODUCT_UNSUPPORTED,
 * with nothing written, where this version of oneDNN has nothing fast for the processor, the types or the shape. */
ProductResult product_dnnl(const Product *product);

/* Whether product_dnnl may have lost subnormal numbers: some of the operands', sums of products, or the result's. */
bool product_was_flushed(const Product *product);

/* What product_dnnl does, through float32: both operands are widened, the result is rounded once. Takes every float
 * dtype. */
bool product_widened(const Product *product);

#endif
