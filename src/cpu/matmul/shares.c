/* Products that are cut: shares, whose bits do not depend on the number of threads, and parts, between which a long
 * product can be stopped.
 *
 * A library cuts a product by how many threads it has. OpenBLAS's kernels for the edges of a matrix add up in another
 * order than those for the rest, and oneDNN lets several threads share the sums of long rows. Here a product is cut by
 * its shape alone, and never in the dimension that is summed over. */
#include "core/context.h"
#include "cpu/matmul/product.h"
#include "cpu/parallel.h"

enum { SHARES_MOST = 64, SHARE_MULTIPLE = 16 };

/* Multiply-adds of a part, some tenths of a second on two cores: for fewer, packing the columns anew takes OpenBLAS a tenth. */
static const double part_operations = 0x1p36;

/* Each share reads and packs its rows and columns anew. So that this costs little, of n shares each has n times as many
 * multiply-adds at least. */
static const double share_operations = 0x1p20;

typedef struct Shares {
  const Product *product;
  ProductKernel kernel;
  Context *context;
  int64_t batch, rows, columns; /* of a share, the last ones of a dimension perhaps smaller */
  int64_t down, across;         /* shares of a matrix */
  ProductResult *result;
} Shares;

static int64_t part_length(int64_t first, int64_t length, int64_t whole) {
  return whole - first < length ? whole - first : length;
}

static const void *address_of(const Matrix *matrix, int64_t batch, int64_t row, int64_t column) {
  int64_t line = matrix->transposed ? column : row, place = matrix->transposed ? row : column;
  int64_t offset = batch * matrix->batch_stride + line * matrix->stride + place;
  return (const char *)matrix->data + offset * dtype_size(matrix->dtype);
}

static Product share_of(const Shares *job, int64_t number) {
  const Product *product = job->product;
  int64_t batch = number / (job->down * job->across) * job->batch;
  int64_t row = number / job->across % job->down * job->rows, column = number % job->across * job->columns;
  int64_t element = dtype_size(product->out_dtype);
  Product share = *product;
  share.a.batch = share.b.batch = part_length(batch, job->batch, product->a.batch);
  share.a.rows = part_length(row, job->rows, product->a.rows);
  share.b.columns = part_length(column, job->columns, product->b.columns);
  share.a.data = address_of(&product->a, batch, row, 0);
  share.b.data = address_of(&product->b, batch, 0, column);
  share.out = (char *)product->out + (batch * product->out_batch_stride + row * product->out_stride + column) * element;
  if (product->bias) share.bias = (const char *)product->bias + column * element;
  return share;
}

static void multiply_shares(int64_t begin, int64_t end, const void *context) {
  const Shares *job = context;
  Context *outer = context_enter(job->context);
  for (int64_t i = begin; i < end; i++) {
    Product share = share_of(job, i);
    ProductResult result = job->kernel(&share);
    if (result != PRODUCT_DONE) __atomic_store_n(job->result, result, __ATOMIC_RELAXED);
  }
  context_enter(outer);
}

static void count_down_and_across(Shares *job) {
  job->down = divide_up(job->product->a.rows, job->rows);
  job->across = divide_up(job->product->b.columns, job->columns);
}

static int64_t half(int64_t length) {
  return length > 2 * SHARE_MULTIPLE ? divide_up(length, 2 * SHARE_MULTIPLE) * SHARE_MULTIPLE : divide_up(length, 2);
}

static int64_t count_shares(const Shares *job) {
  return divide_up(job->product->a.batch, job->batch) * job->down * job->across;
}

/* Halves the batch, then the longer side. */
static void cut(Shares *job) {
  const Product *product = job->product;
  double most = product_operations(product) / share_operations; /* the square of the number of shares */
  for (int64_t shares = 2; shares <= SHARES_MOST && (double)(shares * shares) <= most; shares *= 2) {
    if (job->batch > 1) {
      job->batch = half(job->batch);
    } else if (job->rows > job->columns) {
      job->rows = half(job->rows);
    } else {
      job->columns = half(job->columns);
    }
  }
  count_down_and_across(job);
}

/* Whether no library uses more than one thread for this: OpenBLAS does for more than 64³ multiply-adds, some of its
 * versions for 96² if there is a vector. */
static bool is_small(const Product *product) {
  bool has_vector = product->a.rows == 1 || product->b.columns == 1;
  return product_operations(product) <= (has_vector ? 95.0 * 96.0 : 64.0 * 64.0 * 64.0);
}

static Shares whole(const Product *product) {
  return (Shares){
      .product = product, .batch = product->a.batch, .rows = product->a.rows, .columns = product->b.columns};
}

ProductResult product_in_shares(const Product *product, ProductKernel kernel) {
  if (is_small(product)) return kernel(product);
  ProductResult result = PRODUCT_DONE;
  Shares job = whole(product);
  job.kernel = kernel;
  job.context = context_now;
  job.result = &result;
  cut(&job);
  parallel_library_calls(count_shares(&job), multiply_shares, &job);
  return result;
}

bool product_in_parts(const Product *product, const Context *stopper) {
  int64_t parts = (int64_t)(product_operations(product) / part_operations);
  if (parts < 2) return product_any(product);
  Shares job = whole(product);
  job.batch = divide_up(job.batch, parts);
  parts = divide_up(parts, divide_up(product->a.batch, job.batch));
  job.rows = divide_up(job.rows, parts * SHARE_MULTIPLE) * SHARE_MULTIPLE;
  count_down_and_across(&job);
  for (int64_t i = 0; i < count_shares(&job); i++) {
    Product part = share_of(&job, i);
    if (context_stops(stopper) || !product_any(&part)) return false;
  }
  return true;
}
