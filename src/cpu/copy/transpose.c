#include "cpu/copy/transpose.h"

#include <string.h>

#include "cpu/parallel.h"
#include "cpu/vectorize.h"

/* Lines of a tile's side: a tile of 8-byte elements on both sides still fits the first-level cache. */
enum { TRANSPOSE_TILE = 32 };

/* Over `rows` the source is contiguous, over `columns` the output; strides are in elements. */
typedef struct Transpose {
  char *out;
  const char *src;
  size_t element;
  int64_t rows, columns;
  int64_t out_stride, src_stride; /* of a row in out, of a column in src */
  int64_t row_tiles, column_tiles;
  /* The other dimensions: */
  int rank;
  int64_t size[TENSOR_MAX_RANK], out_outer[TENSOR_MAX_RANK], src_outer[TENSOR_MAX_RANK];
} Transpose;

/* Lines of the source are taken to `tile` first, each at once: as rows of the output they would be needed at distances that
 * often are powers of 2, which all meet in the same places of a cache. `element` is a constant wherever this is inlined. */
INLINED void copy_elements(char *out, const char *src, int64_t out_stride, int64_t src_stride, int64_t rows,
                           int64_t columns, size_t element) {
  enum { WIDEST = sizeof(uint64_t), TILE_STRIDE = TRANSPOSE_TILE + 1 };
  unsigned char tile[TRANSPOSE_TILE * TILE_STRIDE * WIDEST];
  for (int64_t c = 0; c < columns; c++) {
    memcpy(tile + (size_t)(c * TILE_STRIDE) * element, src + c * src_stride * (int64_t)element, (size_t)rows * element);
  }
  for (int64_t r = 0; r < rows; r++) {
    char *row = out + r * out_stride * (int64_t)element;
    for (int64_t c = 0; c < columns; c++) {
      memcpy(row + (size_t)c * element, tile + (size_t)(c * TILE_STRIDE + r) * element, element);
    }
  }
}

static void copy_tile(char *out, const char *src, int64_t out_stride, int64_t src_stride, int64_t rows, int64_t columns,
                      size_t element) {
  switch (element) {
  case 1:
    copy_elements(out, src, out_stride, src_stride, rows, columns, 1);
    return;
  case 2:
    copy_elements(out, src, out_stride, src_stride, rows, columns, 2);
    return;
  case 4:
    copy_elements(out, src, out_stride, src_stride, rows, columns, 4);
    return;
  case 8:
    copy_elements(out, src, out_stride, src_stride, rows, columns, 8);
    return;
  }
  trap_missing_case();
}

static void copy_tiles(int64_t begin, int64_t end, const void *context) {
  const Transpose *job = context;
  int64_t element = (int64_t)job->element;
  for (int64_t task = begin; task < end; task++) {
    int64_t row = task % job->row_tiles * TRANSPOSE_TILE, rest = task / job->row_tiles;
    int64_t column = rest % job->column_tiles * TRANSPOSE_TILE;
    rest /= job->column_tiles;
    int64_t out = row * job->out_stride + column, src = row + column * job->src_stride;
    for (int i = job->rank - 1; i >= 0; i--) {
      out += rest % job->size[i] * job->out_outer[i];
      src += rest % job->size[i] * job->src_outer[i];
      rest /= job->size[i];
    }
    int64_t rows = job->rows - row < TRANSPOSE_TILE ? job->rows - row : TRANSPOSE_TILE;
    int64_t columns = job->columns - column < TRANSPOSE_TILE ? job->columns - column : TRANSPOSE_TILE;
    copy_tile(job->out + out * element, job->src + src * element, job->out_stride, job->src_stride, rows, columns,
              job->element);
  }
}

/* The dimension that is contiguous and long enough for tiles; -1 if there is none. */
static int contiguous_dimension(const Tensor *tensor) {
  for (int i = 0; i < tensor->rank; i++) {
    if (tensor->stride[i] == 1 && tensor->size[i] >= TRANSPOSE_TILE / 2) return i;
  }
  return -1;
}

bool transpose_copy(Tensor *out, const Tensor *src) {
  int column = contiguous_dimension(out), row = contiguous_dimension(src);
  if (column < 0 || row < 0 || column == row) return false;
  Transpose job = {.out = tensor_data(out),
                   .src = tensor_data(src),
                   .element = dtype_size(out->dtype),
                   .rows = out->size[row],
                   .columns = out->size[column],
                   .out_stride = out->stride[row],
                   .src_stride = src->stride[column]};
  int64_t outer = 1;
  for (int i = 0; i < out->rank; i++) {
    if (i == row || i == column) continue;
    job.size[job.rank] = out->size[i];
    job.out_outer[job.rank] = out->stride[i];
    job.src_outer[job.rank++] = src->stride[i];
    outer *= out->size[i];
  }
  job.row_tiles = divide_up(job.rows, TRANSPOSE_TILE);
  job.column_tiles = divide_up(job.columns, TRANSPOSE_TILE);
  parallel_for(outer * job.row_tiles * job.column_tiles, TRANSPOSE_TILE * TRANSPOSE_TILE, copy_tiles, &job);
  return true;
}
