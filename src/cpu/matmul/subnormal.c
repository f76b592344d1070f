/* The processors' bf16 instructions take subnormal numbers, those below 2^-126, for 0, and give 0 where a sum is one.
 *
 * Every number that is no smaller than some smallest one is a multiple of its last bit, so products are multiples of the
 * product of both operands' last bits, and so are all their sums: unless that is subnormal, none of them is. */
#include "cpu/matmul/product.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

enum { EXPONENT_BIAS = 127, FRACTION_BITS = 7, SMALLEST_EXPONENT = -126 };

/* Reading so many costs as much as an elementwise operation. */
enum { ELEMENTS_A_UNIT = 8 };

/* Bits of the smallest magnitude other than 0, less 1; 0xFFFF where there is none. */
VECTORIZE static uint16_t smallest_magnitude(const uint16_t *x, int64_t n) {
  uint16_t smallest = 0xFFFF;
  for (int64_t i = 0; i < n; i++) {
    uint16_t before = (uint16_t)((x[i] & 0x7FFF) - 1);
    smallest = before < smallest ? before : smallest;
  }
  return smallest;
}

/* The elements as lines of `length`, of which every `lines` lie `stride` apart, and the next ones `batch_stride`; a task
 * takes a piece of a line. */
typedef struct Lines {
  const uint16_t *data;
  int64_t count, length, stride; /* count: in one matrix of the batch */
  int64_t batch, batch_stride;
  int64_t pieces; /* in a line */
  uint16_t *smallest;
} Lines;

enum { PIECE = 8192 };

static void measure_pieces(int64_t begin, int64_t end, const void *context) {
  const Lines *job = context;
  uint16_t smallest = 0xFFFF;
  for (int64_t task = begin; task < end; task++) {
    int64_t line = task / job->pieces, start = task % job->pieces * PIECE, rest = job->length - start;
    int64_t first = line / job->count * job->batch_stride + line % job->count * job->stride + start;
    uint16_t of_piece = smallest_magnitude(job->data + first, rest < PIECE ? rest : PIECE);
    if (of_piece < smallest) smallest = of_piece;
  }
  uint16_t known = __atomic_load_n(job->smallest, __ATOMIC_RELAXED);
  while (smallest < known &&
         !__atomic_compare_exchange_n(job->smallest, &known, smallest, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

/* Lines without a gap between them are one. */
static Lines lines_of(const Matrix *matrix) {
  Lines job = {.data = matrix->data,
               .count = matrix->transposed ? matrix->columns : matrix->rows,
               .length = matrix->transposed ? matrix->rows : matrix->columns,
               .stride = matrix->stride,
               .batch = matrix->batch_stride == 0 ? 1 : matrix->batch,
               .batch_stride = matrix->batch_stride};
  if (job.stride == job.length || job.count == 1) {
    job.length *= job.count;
    job.count = 1;
    if (job.batch_stride == job.length) {
      job.length *= job.batch;
      job.batch = 1;
    }
  }
  job.pieces = divide_up(job.length, PIECE);
  return job;
}

/* The exponent of the last bit that all elements have in common; far below all others if one of them is subnormal. */
static int last_bit(const Matrix *matrix) {
  enum { SUBNORMAL = -1000 };
  uint16_t smallest = 0xFFFF;
  Lines job = lines_of(matrix);
  job.smallest = &smallest;
  int64_t work = (job.length < PIECE ? job.length : PIECE) / ELEMENTS_A_UNIT + 1;
  parallel_for(job.batch * job.count * job.pieces, work, measure_pieces, &job);
  int exponent = (smallest + 1) >> FRACTION_BITS;
  return exponent > 0 ? exponent - EXPONENT_BIAS - FRACTION_BITS : SUBNORMAL;
}

bool product_may_be_subnormal(const Product *product) {
  if (last_bit(&product->a) + last_bit(&product->b) < SMALLEST_EXPONENT) return true;
  if (!product->bias || product->out_dtype != DTYPE_BF16) return false;
  Matrix bias = {.data = product->bias, .batch = 1, .rows = 1, .columns = product->b.columns};
  return last_bit(&bias) < SMALLEST_EXPONENT;
}
