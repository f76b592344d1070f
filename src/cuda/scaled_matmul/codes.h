/* A product of codes under way, and the two ways to compute it. */
#ifndef FP8_CUDA_SCALED_MATMUL_CODES_H
#define FP8_CUDA_SCALED_MATMUL_CODES_H

#include "cuda/matmul/product.h"
#include "scaled_matmul/scaled_matmul.h"

/* One side: codes (elements, k) and their scales. */
typedef struct CodesSide {
  const Tensor *codes;
  const float *scale;
  ScaleGrid grid;
} CodesSide;

/* A ScaledProduct (core/operations.h) with its sizes. */
typedef struct CodesProduct {
  int64_t m, n, k;
  CodesSide a, b;
  bool by_runs; /* sums of fewer terms than k are scaled, or scales of 128 rows */
  Tensor *out;
  const void *bias; /* or NULL */
  bool fast;
  bool adds; /* to an f32 out that is to become a 16-bit one */
} CodesProduct;

/* Of contiguous operands without scales and bias; b is transposed as it lies. */
static inline CublasProduct codes_product(const CodesProduct *scaled, const void *a, const void *b) {
  return (CublasProduct){
      .m = scaled->m,
      .n = scaled->n,
      .k = scaled->k,
      .batch = 1,
      .a = {.data = a, .dtype = scaled->a.codes->dtype, .leading = scaled->k},
      .b = {.data = b, .dtype = scaled->b.codes->dtype, .transposed = true, .leading = scaled->k},
      .out = tensor_data(scaled->out),
      .out_dtype = scaled->out->dtype,
  };
}

/* Scales (unless they are by runs), biases and rounds the sums of products of codes; NULL stands for zeros. */
bool cuda_finish_codes(CudaDevice *device, const CodesProduct *scaled, const float *sums);

/* By FP8 tensor cores; unsupported where the device has none, and for f32 results that are none of a sum, for which they
 * are not accurate enough. */
ProductStatus cuda_codes_on_tensor_cores(CudaDevice *device, const CodesProduct *scaled);

/* In bf16, which holds every float8 value exactly. */
bool cuda_codes_in_bf16(CudaDevice *device, const CodesProduct *scaled);

#endif
