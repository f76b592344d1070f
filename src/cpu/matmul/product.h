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

/* out[i] = a[i] · b[i] + bias: the rows of out are contiguous; bias has its dtype and length b.columns, or is NULL. */
typedef struct Product {
  Matrix a, b;
  void *out;
  DType out_dtype;
  int64_t out_stride, out_batch_stride; /* in elements, from one row or matrix of out to the next */
  const void *bias;
  bool adds;    /* out[i] = out[i] + a[i] · b[i]: out is f32, and there is no bias */
  bool planned; /* one of many of this shape, for which oneDNN may compile whatever its size */
} Product;

/* Of a contiguous out. */
static inline Product product_of(Matrix a, Matrix b, void *out, DType out_dtype, const void *bias) {
  return (Product){a, b, out, out_dtype, b.columns, a.rows * b.columns, bias, false, false};
}

static inline double product_operations(const Product *product) {
  return (double)product->a.batch * (double)product->a.rows * (double)product->a.columns * (double)product->b.columns;
}

/* f32 only, through oneDNN where it has something fast, else OpenBLAS. */
bool product_f32(const Product *product);

/* f32, f16 or bf16, with output of the same type or f32, by whichever of the functions here is fastest. */
bool product_any(const Product *product);

typedef enum ProductResult { PRODUCT_DONE, PRODUCT_UNSUPPORTED, PRODUCT_FAILED } ProductResult;

/* f32, f16 and bf16, with output of the same type or f32, through oneDNN; accumulates in float32. PRODUCT_UNSUPPORTED,
 * whatever is written then, where this version of oneDNN has nothing fast for the processor, the types or the shape, or
 * where its instructions might lose subnormal numbers. */
ProductResult product_dnnl(const Product *product);

/* Whether it takes float32, without gaps in the operands. Elsewhere such products are OpenBLAS's, for which threads that call
 * it have to reserve memory. */
bool product_dnnl_takes_f32(void);

/* What product_dnnl does, through float32: both operands are widened, the result is rounded once. Takes every float
 * dtype. */
bool product_widened(const Product *product);

/* Multiplies with one thread, or as many as a library sees fit to use. */
typedef ProductResult (*ProductKernel)(const Product *product);

/* What `kernel` does, by shares of the product, each of which one thread multiplies: the same bits whatever the number
 * of threads. */
ProductResult product_in_shares(const Product *product, ProductKernel kernel);

/* product_any, of a long product a part after the other, by its shape alone. False where it was stopped (context_stops). */
bool product_in_parts(const Product *product, const struct Context *stopper);

/* Whether a number that bf16 instructions might meet when they multiply these operands, which may be a sum of some of
 * the products, is subnormal. */
bool product_may_be_subnormal(const Product *product);

#endif
