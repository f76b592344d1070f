/* Softmax over the middle one of three dimensions: of columns of matrices, a tile of them at a time. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/parallel.h"
#include "cpu/softmax/row_sum.h"
#include "cpu/vectors.h"

/* Columns of a tile, and the rows up to which its exponentials are kept until their sums are known. */
enum { TILE = 32, KEPT_ROWS = 1024 };

typedef struct Columns {
  DType dtype;
  char *out;
  const char *x;
  int64_t rows, columns; /* of a matrix */
  int64_t tiles;         /* of a matrix */
  bool logarithm;
} Columns;

/* `width` columns. It and the dtype are constants where they can be, wherever this is inlined. */
INLINED void softmax_tile(const Columns *job, DType dtype, char *out, const char *x, int width) {
  float largest[TILE], factor[TILE], kept[KEPT_ROWS][TILE];
  double sum[TILE];
  int64_t rows = job->rows, stride = job->columns * (dtype == DTYPE_F32 ? 4 : 2);
  bool keeps = rows <= KEPT_ROWS && !job->logarithm;
  for (int j = 0; j < width; j++) {
    largest[j] = -INFINITY;
    sum[j] = 0;
  }
  for (int64_t i = 0; i < rows; i++) {
    for (int j = 0; j < width; j++) largest[j] = larger_or_nan(largest[j], element_at(dtype, x + i * stride, j));
  }
  for (int64_t i = 0; i < rows; i++) {
    float *powers = kept[keeps ? i : 0];
    for (int j = 0; j < width; j++) powers[j] = vector_exp_down(element_at(dtype, x + i * stride, j) - largest[j]);
    for (int j = 0; j < width; j++) sum[j] += (double)powers[j];
  }
  for (int j = 0; j < width; j++) factor[j] = job->logarithm ? logf((float)sum[j]) : 1.0f / (float)sum[j];
  for (int64_t i = 0; i < rows; i++) {
    char *row = out + i * stride;
    if (keeps) {
      for (int j = 0; j < width; j++) store_at(dtype, row, j, kept[i][j] * factor[j]);
    } else if (job->logarithm) {
      for (int j = 0; j < width; j++) {
        store_at(dtype, row, j, (element_at(dtype, x + i * stride, j) - largest[j]) - factor[j]);
      }
    } else {
      for (int j = 0; j < width; j++) {
        store_at(dtype, row, j, vector_exp_down(element_at(dtype, x + i * stride, j) - largest[j]) * factor[j]);
      }
    }
  }
}

INLINED void softmax_tile_of(const Columns *job, DType dtype, char *out, const char *x, int width) {
  if (width == TILE) {
    softmax_tile(job, dtype, out, x, TILE);
  } else {
    softmax_tile(job, dtype, out, x, width);
  }
}

VECTORIZE static void softmax_any_tile(const Columns *job, char *out, const char *x, int width) {
  if (job->dtype == DTYPE_F32) {
    softmax_tile_of(job, DTYPE_F32, out, x, width);
  } else if (job->dtype == DTYPE_BF16) {
    softmax_tile_of(job, DTYPE_BF16, out, x, width);
  } else {
    softmax_tile_of(job, DTYPE_F16, out, x, width);
  }
}

/* Tasks are (matrix, tile). */
static void softmax_tiles(int64_t begin, int64_t end, const void *context) {
  const Columns *job = context;
  for (int64_t task = begin; task < end; task++) {
    int64_t column = task % job->tiles * TILE, left = job->columns - column;
    int64_t start = (task / job->tiles * job->rows * job->columns + column) * dtype_size(job->dtype);
    softmax_any_tile(job, job->out + start, job->x + start, left < TILE ? (int)left : TILE);
  }
}

bool cpu_softmax_columns(Tensor *out, const Tensor *x, bool logarithm) {
  if (tensor_count(x) == 0) return true;
  Columns job = {.dtype = x->dtype,
                 .out = tensor_data(out),
                 .x = tensor_data(x),
                 .rows = x->size[1],
                 .columns = x->size[2],
                 .tiles = divide_up(x->size[2], TILE),
                 .logarithm = logarithm};
  parallel_for(x->size[0] * job.tiles, job.rows * TILE * 2 * EXP_WORK, softmax_tiles, &job);
  return true;
}
