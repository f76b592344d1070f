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

typedef struct Lines {
  const Matrix *matrix;
  int64_t count, length; /* of lines in one matrix of the batch, and of elements in a line */
  uint16_t *smallest;
} Lines;

static void measure_lines(int64_t begin, int64_t end, const void *context) {
  const Lines *job = context;
  uint16_t smallest = 0xFFFF;
  for (int64_t line = begin; line < end; line++) {
    int64_t first = line / job->count * job->matrix->batch_stride + line % job->count * job->matrix->stride;
    uint16_t of_line = smallest_magnitude((const uint16_t *)job->matrix->data + first, job->length);
    if (of_line < smallest) smallest = of_line;
  }
  uint16_t known = __atomic_load_n(job->smallest, __ATOMIC_RELAXED);
  while (smallest < known &&
         !__atomic_compare_exchange_n(job->smallest, &known, smallest, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

/* The exponent of the last bit that all elements have in common; far below all others if one of them is subnormal. */
static int last_bit(const Matrix *matrix) {
  enum { SUBNORMAL = -1000 };
  uint16_t smallest = 0xFFFF;
  Lines job = {matrix, matrix->transposed ? matrix->columns : matrix->rows,
               matrix->transposed ? matrix->rows : matrix->columns, &smallest};
  int64_t matrices = matrix->batch_stride == 0 ? 1 : matrix->batch;
  parallel_for(matrices * job.count, divide_up(job.length, ELEMENTS_A_UNIT), measure_lines, &job);
  int exponent = (smallest + 1) >> FRACTION_BITS;
  return exponent > 0 ? exponent - EXPONENT_BIAS - FRACTION_BITS : SUBNORMAL;
}

bool product_may_be_subnormal(const Product *product) {
  if (last_bit(&product->a) + last_bit(&product->b) < SMALLEST_EXPONENT) return true;
  if (!product->bias || product->out_dtype != DTYPE_BF16) return false;
  Matrix bias = {.data = product->bias, .batch = 1, .rows = 1, .columns = product->b.columns};
  return last_bit(&bias) < SMALLEST_EXPONENT;
}
