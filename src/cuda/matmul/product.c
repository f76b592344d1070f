#include "cuda/matmul/product.h"

#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "cuda/matmul/product_plan.h"

enum { CACHE_SIZE = 1024, CACHE_PROBES = 8 };

/* The plans of a device. */
typedef struct Blas {
  cublasLtHandle_t handle;
  void *workspace;
  ProductPlan cache[CACHE_SIZE];
} Blas;

/* The handle and workspace of a device, which must be current; NULL with an error. */
static Blas *open_blas(CudaDevice *device) {
  if (device->blas) return device->blas;
  Blas *opened = host_allocate_zeroed(1, sizeof *opened);
  if (!opened) return NULL;
  opened->workspace = cuda_allocate_uncounted(device, product_workspace_bytes);
  cuda_enter_device_call();
  bool created = opened->workspace && product_check(cublasLtCreate(&opened->handle), "cublasLtCreate");
  cuda_leave_device_call();
  if (!created) {
    if (opened->workspace) cuda_allocator.release(device->index, opened->workspace, product_workspace_bytes);
    free(opened);
    return NULL;
  }
  return device->blas = opened;
}

void cuda_release_products(CudaDevice *device) {
  if (!device->blas) return;
  cublasLtDestroy(device->blas->handle);
  cuda_allocator.release(device->index, device->blas->workspace, product_workspace_bytes);
  free(device->blas);
  device->blas = NULL;
}

static cudaDataType data_type(DType dtype) {
  switch (dtype) {
  case DTYPE_F16:
    return CUDA_R_16F;
  case DTYPE_BF16:
    return CUDA_R_16BF;
  case DTYPE_E4M3:
    return CUDA_R_8F_E4M3;
  case DTYPE_E5M2:
    return CUDA_R_8F_E5M2;
  case DTYPE_F32:
    return CUDA_R_32F;
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

static uint32_t alignment(const void *pointer) { return alignment_of(pointer, 256); }

static CublasProblem problem_of(const CublasProduct *product, bool deterministic) {
  /* An epilogue reads the bias as it writes the output. */
  uint32_t out = alignment(product->out), bias = product->bias ? alignment(product->bias) : 256;
  return (CublasProblem){
      .m = product->m,
      .n = product->n,
      .k = product->k,
      .batch = product->batch,
      .leading_a = product->a.leading,
      .leading_b = product->b.leading,
      .batch_a = product->a.batch,
      .batch_b = product->b.batch,
      .type_a = (int32_t)data_type(product->a.dtype),
      .type_b = (int32_t)data_type(product->b.dtype),
      .type_out = (int32_t)data_type(product->out_dtype),
      .transposed_a = product->a.transposed,
      .transposed_b = product->b.transposed,
      .has_bias = product->bias != NULL,
      .fast = product->fast,
      .scales = (uint8_t)(product->a.scales | product->b.scales << 4),
      .deterministic = deterministic,
      .alignment_a = alignment(product->a.data),
      .alignment_b = alignment(product->b.data),
      .alignment_out = out < bias ? out : bias,
  };
}

static uint32_t hash(const CublasProblem *problem) {
  uint64_t words[sizeof *problem / sizeof(uint64_t)];
  memcpy(words, problem, sizeof words);
  return hash_words(words, sizeof words / sizeof words[0]);
}

/* The problem's plan, or one to fill for it: where all are taken, that of another problem. */
static ProductPlan *find_plan(Blas *opened, const CublasProblem *problem) {
  uint32_t start = hash(problem);
  for (uint32_t i = 0; i < CACHE_PROBES; i++) {
    ProductPlan *plan = &opened->cache[(start + i) % CACHE_SIZE];
    if (!plan->used || memcmp(&plan->problem, problem, sizeof *problem) == 0) return plan;
  }
  ProductPlan *plan = &opened->cache[start % CACHE_SIZE];
  plan->used = false;
  return plan;
}

/* Timing the candidates costs some milliseconds, so a product has to come again to be worth it; then at the third time,
 * so that the first steps of a script start at once. Which is the fastest may change from run to run, and the bits with
 * it: the heuristic's first choice does not, and cuBLASLt's kernels give the same bits in every run. */
static bool should_tune(const CudaDevice *device, const ProductPlan *plan) {
  enum { USES = 2 };
  if (plan->tuned || plan->problem.deterministic || device->capturing) return false;
  return (plan->uses >= USES || device->preparing) && product_tuning_is_on();
}

ProductStatus product_run(CudaDevice *device, const CublasProduct *product) {
  if (product->batch > INT32_MAX) return PRODUCT_UNSUPPORTED;
  Blas *opened = open_blas(device);
  if (!opened) return PRODUCT_FAILED;
  CublasProblem problem = problem_of(product, context_current()->deterministic);
  ProductPlan *plan = find_plan(opened, &problem);
  if (!plan->used && !product_plan_make(plan, &problem, opened->handle)) return PRODUCT_FAILED;
  if (!plan->supported) return PRODUCT_UNSUPPORTED;
  if (!product_plan_point(plan, product)) return PRODUCT_FAILED;
  ProductRun run = {.handle = opened->handle,
                    .plan = plan,
                    .product = product,
                    .workspace = opened->workspace,
                    .stream = device->launch.stream};
  /* Candidates write over the output: a sum takes the algorithm of the same product that is none, if that came before. */
  if (!product->adds && should_tune(device, plan)) product_tune(&run);
  if (plan->uses < UINT32_MAX) plan->uses++;
  return product_check(product_enqueue(&run, &plan->algorithm), "cublasLtMatmul") &&
                 cuda_launched(device, cudaSuccess, "cublasLtMatmul")
             ? PRODUCT_DONE
             : PRODUCT_FAILED;
}
