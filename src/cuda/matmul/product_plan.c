#include "cuda/matmul/product_plan.h"

const size_t product_workspace_bytes = (size_t)32 << 20;

bool product_check(cublasStatus_t status, const char *call) {
  return status == CUBLAS_STATUS_SUCCESS || error_set("%s: %s", call, cublasLtGetStatusString(status));
}

static bool set(ProductPlan *plan, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes) {
  return product_check(cublasLtMatmulDescSetAttribute(&plan->product, attribute, value, bytes),
                       "cublasLtMatmulDescSetAttribute");
}

/* A matrix that our row-major (rows, columns) view, or its transpose, makes in column-major order. */
static bool make_layout(cublasLtMatrixLayoutOpaque_t *layout, int32_t type, bool transposed, int64_t rows,
                        int64_t columns, int64_t leading, int64_t batch, int64_t batch_stride) {
  int64_t down = transposed ? rows : columns, across = transposed ? columns : rows;
  int32_t count = (int32_t)batch;
  if (leading < down) leading = down; /* a single row or column may have any stride */
  return product_check(cublasLtMatrixLayoutInit(layout, (cudaDataType)type, (uint64_t)down, (uint64_t)across, leading),
                       "cublasLtMatrixLayoutInit") &&
         (batch == 1 ||
          (product_check(
               cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
               "cublasLtMatrixLayoutSetAttribute") &&
           product_check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                          &batch_stride, sizeof batch_stride),
                         "cublasLtMatrixLayoutSetAttribute")));
}

static bool make_layouts(ProductPlan *plan) {
  const CublasProblem *problem = &plan->problem;
  return make_layout(&plan->first, problem->type_b, problem->transposed_b, problem->k, problem->n, problem->leading_b,
                     problem->batch, problem->batch_b) &&
         make_layout(&plan->second, problem->type_a, problem->transposed_a, problem->m, problem->k, problem->leading_a,
                     problem->batch, problem->batch_a) &&
         make_layout(&plan->out, problem->type_out, false, problem->m, problem->n, problem->n, problem->batch,
                     problem->m * problem->n);
}

static int32_t scale_mode(int scales) {
  switch ((ProductScales)scales) {
  case SCALES_NONE:
  case SCALES_ONE:
    return CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
  case SCALES_VECTOR:
    return CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  case SCALES_RUNS:
    return CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
  case SCALES_SQUARES:
    return CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F;
  }
  trap_missing_case();
}

static bool make_product(ProductPlan *plan) {
  const CublasProblem *problem = &plan->problem;
  int32_t first_mode = scale_mode(problem->scales >> 4), second_mode = scale_mode(problem->scales & 15);
  int32_t first = problem->transposed_b ? CUBLAS_OP_T : CUBLAS_OP_N,
          second = problem->transposed_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  int32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  return product_check(cublasLtMatmulDescInit(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                       "cublasLtMatmulDescInit") &&
         set(plan, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
         set(plan, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
         (!problem->fast || set(plan, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &problem->fast, sizeof problem->fast)) &&
         (problem->scales == 0 || (set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &first_mode, sizeof first_mode) &&
                                   set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &second_mode, sizeof second_mode))) &&
         (!problem->has_bias ||
          (set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           set(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &problem->type_out, sizeof problem->type_out)));
}

static bool point(ProductPlan *plan, cublasLtMatmulDescAttributes_t attribute, const void **now, const void *address) {
  if (*now == address) return true;
  *now = address;
  return set(plan, attribute, &address, sizeof address);
}

bool product_plan_point(ProductPlan *plan, const CublasProduct *product) {
  return point(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &plan->bias, product->bias) &&
         point(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &plan->first_scale, product->b.scale) &&
         point(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &plan->second_scale, product->a.scale);
}

static bool prefer(cublasLtMatmulPreferenceOpaque_t *preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   const void *value, size_t bytes) {
  return product_check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes),
                       "cublasLtMatmulPreferenceSetAttribute");
}

static bool make_preference(cublasLtMatmulPreferenceOpaque_t *preference, const CublasProblem *problem) {
  /* Partial sums of a split k dimension are added in float32, never in the output's dtype, but rounded to it before a
   * bias comes to them, and then once more. */
  bool splits = !problem->has_bias || problem->type_out == CUDA_R_32F;
  uint32_t reduction = splits ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
  const size_t *workspace = &product_workspace_bytes;
  return product_check(cublasLtMatmulPreferenceInit(preference), "cublasLtMatmulPreferenceInit") &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace, sizeof *workspace) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &problem->alignment_b, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &problem->alignment_a, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &problem->alignment_out, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &problem->alignment_out, sizeof(uint32_t));
}

bool product_plan_candidates(const ProductPlan *plan, cublasLtHandle_t handle, int count,
                             cublasLtMatmulHeuristicResult_t *results, int *found) {
  cublasLtMatmulPreferenceOpaque_t preference;
  *found = 0;
  if (!make_preference(&preference, &plan->problem)) return false;
  /* The calls take pointers to what they only read. */
  ProductPlan *read = (ProductPlan *)plan;
  cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, &read->product, &read->first, &read->second,
                                                         &read->out, &read->out, &preference, count, results, found);
  bool refused = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
  if (!refused) return product_check(status, "cublasLtMatmulAlgoGetHeuristic");
  *found = 0;
  return true;
}

bool product_plan_make(ProductPlan *plan, const CublasProblem *problem, cublasLtHandle_t handle) {
  cublasLtMatmulHeuristicResult_t result;
  int found;
  *plan = (ProductPlan){.problem = *problem};
  if (!make_layouts(plan) || !make_product(plan)) return false;
  /* The heuristic refuses vectors of scales that are nowhere: any address will do. */
  if (problem->scales > 0) {
    const void *anywhere = plan;
    if (!point(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &plan->first_scale, anywhere) ||
        !point(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &plan->second_scale, anywhere)) {
      return false;
    }
  }
  if (!product_plan_candidates(plan, handle, 1, &result, &found)) return false;
  plan->supported = found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  if (plan->supported) plan->algorithm = result.algo;
  plan->used = true;
  return true;
}

cublasStatus_t product_enqueue(const ProductRun *run, const cublasLtMatmulAlgo_t *algorithm) {
  const float one = 1, beta = run->product->adds ? 1 : 0;
  ProductPlan *plan = run->plan;
  const CublasProduct *product = run->product;
  return cublasLtMatmul(run->handle, &plan->product, &one, product->b.data, &plan->first, product->a.data,
                        &plan->second, &beta, product->out, &plan->out, product->out, &plan->out, algorithm,
                        run->workspace, product_workspace_bytes, run->stream);
}
