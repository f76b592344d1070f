/* x86's instructions for bf16 take subnormal numbers for zeros, and give zeros where a sum of products is subnormal:
 * float32 has these numbers. Whether that happened is looked for in the operands, but not where the result is smaller
 * than they are and all of it is far above what can have been lost. */
#include <limits.h>
#include <math.h>
#include <stdatomic.h>

#include "cpu/matmul/product.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

enum {
  /* A sum of products of bf16 numbers is a multiple of 2^-14 times the product of the least powers of two in them, and
   * so it is not subnormal where their exponents add up to this. */
  LEAST_EXPONENTS = -126 + 14,
  /* The exponent of results that are not looked into: 2^-80 is 2^46 times the least normal number. */
  UNHARMED_EXPONENT = -80,
  BIAS = 127
};

/* The bits of the least magnitude but zero, less one; the largest there are if all are zero. */
VECTORIZE static uint16_t least_bits(const uint16_t *x, int64_t n) {
  uint16_t least = UINT16_MAX;
  for (int64_t i = 0; i < n; i++) {
    uint16_t bits = (uint16_t)((x[i] & 0x7FFF) - 1);
    least = bits < least ? bits : least;
  }
  return least;
}

/* Whether a magnitude is below one that has these bits. */
VECTORIZE static bool has_below_16(const uint16_t *x, int n, uint16_t bound) {
  int found = 0;
  for (int i = 0; i < n; i++) found |= (x[i] & 0x7FFF) < bound;
  return found;
}

VECTORIZE static bool has_below_32(const uint32_t *x, int n, uint32_t bound) {
  int found = 0;
  for (int i = 0; i < n; i++) found |= (x[i] & 0x7FFFFFFF) < bound;
  return found;
}

typedef struct OperandSearch {
  const Matrix *matrix;
  int64_t lines, length; /* rows, or columns if transposed, and their length */
  _Atomic uint16_t *least;
} OperandSearch;

static void search_operand(int64_t begin, int64_t end, const void *context) {
  const OperandSearch *job = context;
  const Matrix *matrix = job->matrix;
  uint16_t least = UINT16_MAX, shared = atomic_load(job->least);
  for (int64_t line = begin; line < end; line++) {
    int64_t start = line / job->lines * matrix->batch_stride + line % job->lines * matrix->stride;
    uint16_t bits = least_bits((const uint16_t *)matrix->data + start, job->length);
    least = bits < least ? bits : least;
  }
  while (least < shared && !atomic_compare_exchange_weak(job->least, &shared, least)) continue;
}

static int64_t distinct_elements(const Matrix *matrix) {
  return (matrix->batch_stride == 0 ? 1 : matrix->batch) * matrix->rows * matrix->columns;
}

/* The exponent of the least number but zero; of a subnormal one and where all are zero, one that ends every doubt. */
static int least_exponent(const Matrix *matrix) {
  _Atomic uint16_t least = UINT16_MAX;
  int64_t length = matrix->transposed ? matrix->rows : matrix->columns;
  OperandSearch job = {matrix, matrix->transposed ? matrix->columns : matrix->rows, length, &least};
  parallel_for(distinct_elements(matrix) / length, divide_up(length, 8), search_operand, &job);
  if (least == UINT16_MAX) return SHRT_MAX;
  int exponent = (least + 1) >> 7;
  return exponent == 0 ? SHRT_MIN : exponent - BIAS;
}

typedef struct ResultSearch {
  const void *out;
  DType dtype;
  atomic_bool *found;
} ResultSearch;

static void search_result(int64_t begin, int64_t end, const void *context) {
  const ResultSearch *job = context;
  for (int64_t start = begin; start < end && !atomic_load(job->found); start += CHUNK) {
    int n = chunk_length(end, start), exponent = BIAS + UNHARMED_EXPONENT;
    bool found = job->dtype == DTYPE_F32
                     ? has_below_32((const uint32_t *)job->out + start, n, (uint32_t)exponent << 23)
                     : has_below_16((const uint16_t *)job->out + start, n, (uint16_t)(exponent << 7));
    if (found) atomic_store(job->found, true);
  }
}

static bool result_is_unharmed(const Product *product, int64_t count) {
  atomic_bool found = false;
  ResultSearch job = {product->out, product->out_dtype, &found};
  parallel_chunks(count, 1, search_result, &job);
  return !found;
}

bool product_was_flushed(const Product *product) {
  const Matrix *a = &product->a, *b = &product->b;
  if (a->dtype != DTYPE_BF16) return false;
  int64_t count = a->batch * a->rows * b->columns;
  if (count < distinct_elements(a) + distinct_elements(b) && result_is_unharmed(product, count)) return false;
  int first = least_exponent(a), second = least_exponent(b);
  return first != SHRT_MAX && second != SHRT_MAX && first + second < LEAST_EXPONENTS;
}
