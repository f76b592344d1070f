#include "product.h"

#include <cublasLt.h>
#include <string.h>

enum { CACHE_SIZE = 1024, CACHE_PROBES = 8 };

static const size_t workspace_bytes = (size_t)32 << 20;

/* All that cuBLASLt's choice of an algorithm depends on, as it sees the product: column-major, so that our row-major
 * out is its (n, m) result, our b its first operand and our a its second. No padding, so that keys compare as bytes. */
typedef struct Problem {
  int64_t m, n, k, batch;
  int64_t leading_a, leading_b, batch_a, batch_b;
  int32_t type_a, type_b, type_out;
  uint16_t transposed_a, transposed_b;
  uint16_t has_bias, scales;                        /* 0: without, 1: one number a side, 2: vectors */
  uint32_t alignment_a, alignment_b, alignment_out; /* bytes */
} Problem;

_Static_assert(sizeof(Problem) == 8 * 8 + 3 * 4 + 4 * 2 + 3 * 4, "no padding");

typedef struct CacheEntry {
  bool used, supported;
  Problem problem;
  cublasLtMatmulAlgo_t algorithm;
} CacheEntry;

typedef struct Blas {
  cublasLtHandle_t handle; /* NULL until first used */
  void *workspace;
  CacheEntry cache[CACHE_SIZE];
} Blas;

static Blas blas[DEVICE_MAX];

static bool check(cublasStatus_t status, const char *call) {
  return status == CUBLAS_STATUS_SUCCESS || error_set("%s: %s", call, cublasLtGetStatusString(status));
}

/* The handle and workspace of a device, which must be current. */
static Blas *open_blas(const CudaDevice *device) {
  Blas *opened = &blas[device->index];
  if (opened->handle) return opened;
  if (!opened->workspace) opened->workspace = cuda_allocate_uncounted(device, workspace_bytes);
  if (!opened->workspace) return NULL;
  cublasLtHandle_t handle;
  if (!check(cublasLtCreate(&handle), "cublasLtCreate")) return NULL;
  opened->handle = handle;
  return opened;
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
  default:
    return CUDA_R_32F;
  }
}

/* The largest power of two, at most 256, that divides the address. */
static uint32_t alignment(const void *pointer) {
  uint32_t low = (uint32_t)(uintptr_t)pointer & 255;
  return low ? low & -low : 256;
}

static Problem problem_of(const Product *product) {
  /* An epilogue reads the bias as it writes the output. */
  uint32_t out = alignment(product->out), bias = product->bias ? alignment(product->bias) : 256;
  return (Problem){
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
      .scales = product->a.scale ? 1 + product->scale_vectors : 0,
      .alignment_a = alignment(product->a.data),
      .alignment_b = alignment(product->b.data),
      .alignment_out = out < bias ? out : bias,
  };
}

/* cuBLASLt's descriptors. They live on the stack: making them costs less than looking them up. */
typedef struct Descriptors {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t first, second, out; /* first is our b, second our a */
} Descriptors;

static bool set(Descriptors *descriptors, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes) {
  return check(cublasLtMatmulDescSetAttribute(&descriptors->product, attribute, value, bytes),
               "cublasLtMatmulDescSetAttribute");
}

static bool set_scale(Descriptors *descriptors, bool vectors, const float *scale,
                      cublasLtMatmulDescAttributes_t pointer, cublasLtMatmulDescAttributes_t mode) {
  if (!scale) return true;
  int32_t vector_mode = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
  return set(descriptors, pointer, &scale, sizeof scale) &&
         (!vectors || set(descriptors, mode, &vector_mode, sizeof vector_mode));
}

/* A matrix that our row-major (rows, columns) view, or its transpose, makes in column-major order. */
static bool make_layout(cublasLtMatrixLayoutOpaque_t *layout, int32_t type, bool transposed, int64_t rows,
                        int64_t columns, int64_t leading, int64_t batch, int64_t batch_stride) {
  int64_t down = transposed ? rows : columns, across = transposed ? columns : rows;
  int32_t count = (int32_t)batch;
  if (leading < down) leading = down; /* a single row or column may have any stride */
  return check(cublasLtMatrixLayoutInit(layout, (cudaDataType)type, (uint64_t)down, (uint64_t)across, leading),
               "cublasLtMatrixLayoutInit") &&
         (batch == 1 ||
          (check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
                 "cublasLtMatrixLayoutSetAttribute") &&
           check(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &batch_stride,
                                                  sizeof batch_stride),
                 "cublasLtMatrixLayoutSetAttribute")));
}

static bool make_descriptors(Descriptors *descriptors, const Product *product, const Problem *problem) {
  int32_t first = problem->transposed_b ? CUBLAS_OP_T : CUBLAS_OP_N,
          second = problem->transposed_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  int32_t epilogue = CUBLASLT_EPILOGUE_BIAS;
  bool made =
      check(cublasLtMatmulDescInit(&descriptors->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit") &&
      set(descriptors, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
      set(descriptors, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
      set_scale(descriptors, product->scale_vectors, product->b.scale, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER,
                CUBLASLT_MATMUL_DESC_A_SCALE_MODE) &&
      set_scale(descriptors, product->scale_vectors, product->a.scale, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER,
                CUBLASLT_MATMUL_DESC_B_SCALE_MODE);
  if (made && product->bias) {
    made = set(descriptors, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
           set(descriptors, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &product->bias, sizeof product->bias) &&
           set(descriptors, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &problem->type_out, sizeof problem->type_out);
  }
  return made &&
         make_layout(&descriptors->first, problem->type_b, problem->transposed_b, problem->k, problem->n,
                     problem->leading_b, problem->batch, problem->batch_b) &&
         make_layout(&descriptors->second, problem->type_a, problem->transposed_a, problem->m, problem->k,
                     problem->leading_a, problem->batch, problem->batch_a) &&
         make_layout(&descriptors->out, problem->type_out, false, problem->m, problem->n, problem->n, problem->batch,
                     problem->m * problem->n);
}

static bool prefer(cublasLtMatmulPreferenceOpaque_t *preference, cublasLtMatmulPreferenceAttributes_t attribute,
                   const void *value, size_t bytes) {
  return check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, value, bytes),
               "cublasLtMatmulPreferenceSetAttribute");
}

static bool make_preference(cublasLtMatmulPreferenceOpaque_t *preference, const Problem *problem) {
  /* Partial sums of a split k dimension are added in float32, never in the output's dtype. */
  uint32_t reduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  return check(cublasLtMatmulPreferenceInit(preference), "cublasLtMatmulPreferenceInit") &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction, sizeof reduction) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &problem->alignment_b, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &problem->alignment_a, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &problem->alignment_out, sizeof(uint32_t)) &&
         prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &problem->alignment_out, sizeof(uint32_t));
}

/* FNV-1a over the key's bytes. */
static uint64_t hash(const Problem *problem) {
  const unsigned char *byte = (const unsigned char *)problem;
  uint64_t value = 0xCBF29CE484222325u;
  for (size_t i = 0; i < sizeof *problem; i++) value = (value ^ byte[i]) * 0x100000001B3u;
  return value;
}

/* The problem's entry, or one to fill for it: where all are taken, that of another problem. */
static CacheEntry *find_entry(Blas *opened, const Problem *problem) {
  uint64_t start = hash(problem);
  for (uint64_t i = start; i < start + CACHE_PROBES; i++) {
    CacheEntry *entry = &opened->cache[i % CACHE_SIZE];
    if (!entry->used || memcmp(&entry->problem, problem, sizeof *problem) == 0) return entry;
  }
  CacheEntry *entry = &opened->cache[start % CACHE_SIZE];
  entry->used = false;
  return entry;
}

/* Fills an entry with the heuristic's first choice, or the knowledge that there is none. */
static bool choose_algorithm(Blas *opened, CacheEntry *entry, const Problem *problem, Descriptors *descriptors) {
  cublasLtMatmulPreferenceOpaque_t preference;
  if (!make_preference(&preference, problem)) return false;
  cublasLtMatmulHeuristicResult_t result;
  int found = 0;
  cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(opened->handle, &descriptors->product, &descriptors->first, &descriptors->second,
                                     &descriptors->out, &descriptors->out, &preference, 1, &result, &found);
  bool refused = status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
  if (!refused && !check(status, "cublasLtMatmulAlgoGetHeuristic")) return false;
  bool supported = !refused && found > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  *entry = (CacheEntry){.used = true, .supported = supported, .problem = *problem};
  if (supported) entry->algorithm = result.algo;
  return true;
}

ProductStatus product_run(const CudaDevice *device, const Product *product) {
  if (product->batch > INT32_MAX) return PRODUCT_UNSUPPORTED;
  Blas *opened = open_blas(device);
  if (!opened) return PRODUCT_FAILED;
  Problem problem = problem_of(product);
  Descriptors descriptors;
  if (!make_descriptors(&descriptors, product, &problem)) return PRODUCT_FAILED;
  CacheEntry *entry = find_entry(opened, &problem);
  if (!entry->used && !choose_algorithm(opened, entry, &problem, &descriptors)) return PRODUCT_FAILED;
  if (!entry->supported) return PRODUCT_UNSUPPORTED;
  const float one = 1, zero = 0;
  cublasStatus_t status =
      cublasLtMatmul(opened->handle, &descriptors.product, &one, product->b.data, &descriptors.first, product->a.data,
                     &descriptors.second, &zero, product->out, &descriptors.out, product->out, &descriptors.out,
                     &entry->algorithm, opened->workspace, workspace_bytes, device->launch.stream);
  return check(status, "cublasLtMatmul") ? PRODUCT_DONE : PRODUCT_FAILED;
}
