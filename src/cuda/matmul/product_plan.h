/* Plans of products: what cuBLASLt needs to know of a product, made once for each shape, layout, dtype and epilogue. */
#ifndef FP8_CUDA_PRODUCT_PLAN_H
#define FP8_CUDA_PRODUCT_PLAN_H

#include <cublasLt.h>

#include "cuda/matmul/product.h"

/* All that cuBLASLt's choice of an algorithm depends on, as it sees the product: column-major, so that our row-major
 * out is its (n, m) result, our b its first operand and our a its second. No padding, so that keys compare as bytes. */
typedef struct CublasProblem {
  int64_t m, n, k, batch;
  int64_t leading_a, leading_b, batch_a, batch_b;
  int32_t type_a, type_b, type_out;
  uint16_t transposed_a, transposed_b;
  uint8_t has_bias, fast;
  uint8_t scales;                                   /* those of a, and 16 times those of b */
  uint8_t deterministic;                            /* the heuristic's first choice, in every run */
  uint32_t alignment_a, alignment_b, alignment_out; /* bytes */
} CublasProblem;

_Static_assert(sizeof(CublasProblem) == 8 * 8 + 3 * 4 + 4 * 2 + 3 * 4, "no padding");

typedef struct ProductPlan {
  bool used, supported;
  bool tuned; /* the algorithm is the fastest of the candidates, not the heuristic's first */
  uint32_t uses;
  CublasProblem problem;
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t first, second, out; /* first is our b, second our a */
  cublasLtMatmulAlgo_t algorithm;
  const void *bias, *first_scale, *second_scale; /* the addresses in `product` now */
} ProductPlan;

/* A product about to be enqueued; the plan points at its bias and scales. */
typedef struct ProductRun {
  cublasLtHandle_t handle;
  ProductPlan *plan;
  const CublasProduct *product;
  void *workspace; /* product_workspace_bytes */
  cudaStream_t stream;
} ProductRun;

extern const size_t product_workspace_bytes;

/* True on success, else an error that names the call. */
bool product_check(cublasStatus_t status, const char *call);

/* Fills a plan, with the heuristic's first choice or the knowledge that there is none; false with an error. */
bool product_plan_make(ProductPlan *plan, const CublasProblem *problem, cublasLtHandle_t handle);
/* Up to `count` algorithms, likely fastest first; false with an error. */
bool product_plan_candidates(const ProductPlan *plan, cublasLtHandle_t handle, int count,
                             cublasLtMatmulHeuristicResult_t *results, int *found);
/* Sets the addresses of the product's bias and scales; false with an error. */
bool product_plan_point(ProductPlan *plan, const CublasProduct *product);

cublasStatus_t product_enqueue(const ProductRun *run, const cublasLtMatmulAlgo_t *algorithm);

/* --- tuning (tune.c) --- */

/* False where the environment variable FP8_TUNE is 0. */
bool product_tuning_is_on(void);
/* Times the candidates on the operands and the output of the run, and gives the plan the fastest. Leaves any values in
 * the output. Changes nothing where anything fails. */
void product_tune(const ProductRun *run);

#endif
