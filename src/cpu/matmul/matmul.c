/* Products of tensors. */
#include "cpu/cpu.h"
#include "cpu/matmul/product.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectors.h"

/* The last two of a tensor's three dimensions are the matrix. Where a dimension of extent 1 leaves both layouts
 * possible, the one that needs no transposition is taken, with the smallest stride that it allows. */
static Matrix matrix_of(const Tensor *tensor) {
  int64_t rows = tensor->size[1], columns = tensor->size[2];
  int64_t row_stride = rows > 1 ? tensor->stride[1] : columns;
  int64_t column_stride = columns > 1 ? tensor->stride[2] : 1;
  if (columns == 1 && rows > 1 && row_stride == 1) column_stride = rows;
  bool transposed = column_stride != 1;
  int64_t stride = transposed ? column_stride : row_stride;
  int64_t length = transposed ? rows : columns;
  return (Matrix){.data = tensor_data(tensor),
                  .dtype = tensor->dtype,
                  .batch = tensor->size[0],
                  .rows = rows,
                  .columns = columns,
                  .stride = stride > length ? stride
                            : length > 0    ? length
                                            : 1,
                  .batch_stride = tensor->size[0] > 1 ? tensor->stride[0] : 0,
                  .transposed = transposed};
}

bool cpu_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias) {
  if (tensor_count(out) == 0) return true;
  Product product =
      product_of(matrix_of(a), matrix_of(b), tensor_data(out), out->dtype, bias ? tensor_data(bias) : NULL);
  return product_in_parts(&product, tensor_stopper(out));
}

typedef struct Addition {
  float *out;
  const float *x;
} Addition;

static void add_chunks(int64_t begin, int64_t end, const void *context) {
  const Addition *job = context;
  for (int64_t start = begin; start < end; start += CHUNK) {
    add_floats(job->out + start, job->out + start, job->x + start, chunk_length(end, start));
  }
}

/* oneDNN adds to nothing. */
bool cpu_matmul_add(Tensor *out, const Tensor *a, const Tensor *b) {
  Product product = product_of(matrix_of(a), matrix_of(b), tensor_data(out), DTYPE_F32, NULL);
  if (a->dtype == DTYPE_F32) {
    product.adds = true;
    return product_any(&product);
  }
  int64_t count = tensor_count(out);
  size_t bytes = (size_t)count * sizeof(float);
  float *sums = scratch_allocate(bytes);
  if (!sums) return false;
  product.out = sums;
  bool done = product_any(&product);
  if (done) parallel_chunks(count, 1, add_chunks, &(Addition){tensor_data(out), sums});
  scratch_release(sums, bytes);
  return done;
}
