#include "cpu/matmul/product.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <string.h>

#include "core/context.h"
#include "core/process.h"
#include "cpu/convert.h"
#include "cpu/matmul/reserve.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

/* Multiply-adds below which one product is not worth more than one thread. */
static const double small_product = 64.0 * 64.0 * 64.0;

/* A multiply-add in OpenBLAS costs this fraction of an elementwise operation. */
enum { MULTIPLY_ADDS_A_UNIT = 32 };

/* Rows of out to fill with the bias, which the products are then added to. */
typedef struct BiasRows {
  float *out;
  const float *bias; /* NULL: zeros */
  int64_t columns;
} BiasRows;

static void fill_rows(int64_t begin, int64_t end, const void *context) {
  const BiasRows *job = context;
  for (int64_t row = begin; row < end; row++) {
    float *out = job->out + row * job->columns;
    size_t bytes = (size_t)job->columns * sizeof *out;
    if (job->bias) {
      memcpy(out, job->bias, bytes);
    } else {
      memset(out, 0, bytes);
    }
  }
}

static bool check_extent(int64_t extent) {
  if (extent <= INT_MAX) return true;
  return error_set("matmul: an extent of %lld is too large for BLAS on the CPU: at most %d", (long long)extent,
                   INT_MAX);
}

/* Matrices begin … end - 1 of the batch. */
static void multiply(int64_t begin, int64_t end, const void *context) {
  const Product *product = context;
  const Matrix *a = &product->a, *b = &product->b;
  float beta = product->bias || product->adds ? 1.0f : 0.0f;
  for (int64_t i = begin; i < end; i++) {
    cblas_sgemm(CblasRowMajor, a->transposed ? CblasTrans : CblasNoTrans, b->transposed ? CblasTrans : CblasNoTrans,
                (int)a->rows, (int)b->columns, (int)a->columns, 1.0f, (const float *)a->data + i * a->batch_stride,
                (int)a->stride, (const float *)b->data + i * b->batch_stride, (int)b->stride, beta,
                (float *)product->out + i * product->out_batch_stride, (int)product->out_stride);
  }
}

static ProductResult multiply_all(const Product *product) {
  multiply(0, product->a.batch, product);
  return PRODUCT_DONE;
}

static bool product_blas(const Product *product) {
  process_has_threads();
  const Matrix *a = &product->a, *b = &product->b;
  if (!check_extent(a->rows) || !check_extent(a->columns) || !check_extent(b->columns) || !check_extent(a->stride) ||
      !check_extent(b->stride)) {
    return false;
  }
  if (!product->adds && (product->bias || a->columns == 0)) {
    BiasRows bias = {product->out, product->bias, b->columns};
    parallel_for(a->batch * a->rows, b->columns, fill_rows, &bias);
  }
  if (a->columns == 0) return true;
  double multiply_adds = (double)a->rows * (double)b->columns * (double)a->columns;
  bool small = a->batch == 1 && multiply_adds <= small_product;
  int most = omp_get_max_threads(), threads = reserve_for_product(small || omp_in_parallel() ? 1 : most);
  if (threads == 0) return false;
  if (threads < most) omp_set_num_threads(threads);
  if (context_now->deterministic) {
    product_in_shares(product, multiply_all);
  } else if (a->batch > 1 && multiply_adds <= small_product) {
    /* OpenBLAS uses one thread where it is called from several. */
    parallel_for(a->batch, 1 + (int64_t)multiply_adds / MULTIPLY_ADDS_A_UNIT, multiply, product);
  } else {
    multiply(0, a->batch, product);
  }
  if (threads < most) omp_set_num_threads(most);
  return true;
}

/* oneDNN takes 0.1 ms to compile for a new shape, which fewer multiply-adds do not make up for. */
static const double worth_compiling = 0x1p20;

/* oneDNN adds to nothing. */
bool product_f32(const Product *product) {
  bool compiled = product->planned || product_operations(product) >= worth_compiling;
  compiled = compiled && product->a.columns > 0 && !product->adds;
  ProductResult result = compiled ? product_dnnl(product) : PRODUCT_UNSUPPORTED;
  return result == PRODUCT_UNSUPPORTED ? product_blas(product) : result == PRODUCT_DONE;
}

/* --- through float32 --- */

typedef struct Widen {
  const Matrix *matrix;
  float *out;
  int64_t lines, length; /* rows, or columns if transposed, and their length */
} Widen;

static void widen_lines(int64_t begin, int64_t end, const void *context) {
  const Widen *job = context;
  for (int64_t line = begin; line < end; line++) {
    int64_t source = line / job->lines * job->matrix->batch_stride + line % job->lines * job->matrix->stride;
    convert_run(DTYPE_F32, job->out, line * job->length, job->matrix->dtype, job->matrix->data, source, job->length);
  }
}

static int64_t distinct_matrices(const Matrix *matrix) { return matrix->batch_stride == 0 ? 1 : matrix->batch; }

static size_t widened_bytes(const Matrix *matrix) {
  return (size_t)(distinct_matrices(matrix) * matrix->rows * matrix->columns) * sizeof(float);
}

/* A contiguous float32 copy in `out`, transposed as the original is. */
static Matrix widen(const Matrix *matrix, float *out) {
  int64_t lines = matrix->transposed ? matrix->columns : matrix->rows;
  int64_t length = matrix->transposed ? matrix->rows : matrix->columns;
  Widen job = {matrix, out, lines > 0 ? lines : 1, length};
  parallel_for(distinct_matrices(matrix) * lines, length, widen_lines, &job);
  Matrix result = *matrix;
  result.data = out;
  result.dtype = DTYPE_F32;
  result.stride = length > 0 ? length : 1;
  result.batch_stride = matrix->batch_stride == 0 ? 0 : matrix->rows * matrix->columns;
  return result;
}

bool product_widened(const Product *product) {
  const Matrix *a = &product->a, *b = &product->b;
  int64_t columns = b->columns, count = a->batch * a->rows * columns;
  bool narrow = product->out_dtype != DTYPE_F32;
  size_t a_bytes = widened_bytes(a), b_bytes = widened_bytes(b);
  size_t bias_bytes = product->bias ? (size_t)columns * sizeof(float) : 0;
  size_t out_bytes = narrow ? (size_t)count * sizeof(float) : 0;
  float *a_data = scratch_allocate(a_bytes), *b_data = scratch_allocate(b_bytes);
  float *bias = scratch_allocate(bias_bytes), *out = scratch_allocate(out_bytes);
  bool done = a_data && b_data && bias && out;
  if (done) {
    Product wide = product_of(widen(a, a_data), widen(b, b_data), narrow ? out : product->out, DTYPE_F32, NULL);
    wide.adds = product->adds;
    wide.planned = product->planned;
    if (product->bias) {
      Matrix row = {product->bias, product->out_dtype, 1, 1, columns, columns, 0, false};
      wide.bias = widen(&row, bias).data;
    }
    done = product_f32(&wide);
    if (done && narrow) convert_all(product->out_dtype, product->out, DTYPE_F32, out, count);
  }
  scratch_release(a_data, a_bytes);
  scratch_release(b_data, b_bytes);
  scratch_release(bias, bias_bytes);
  scratch_release(out, out_bytes);
  return done;
}

/* --- of any type --- */

bool product_any(const Product *product) {
  if (product->a.dtype == DTYPE_F32) return product_f32(product);
  ProductResult result = product->a.columns > 0 ? product_dnnl(product) : PRODUCT_UNSUPPORTED;
  return result == PRODUCT_UNSUPPORTED ? product_widened(product) : result == PRODUCT_DONE;
}
