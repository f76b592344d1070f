/* Transposing bytes: a patch of 128 × 128 in shared memory that a thread block of 256 fills by rows, 16 bytes at a time,
 * and writes by columns, 16 bytes at a time. The 16-byte chunks of a row are permuted by its row block, so that neither
 * side has bank conflicts. */
#ifndef FP8_KERNELS_BYTE_PATCH_CUH
#define FP8_KERNELS_BYTE_PATCH_CUH

#include "vectors.cuh"

namespace byte_patch {

enum {
  BLOCK = 256,
  SIDE = 128,
  RUN = 16, /* bytes that lie side by side on either side: rows and columns of the whole are multiples of it */
  RUNS = SIDE / RUN,
  ROWS_AT_ONCE = BLOCK / RUNS,
  PASSES = SIDE / ROWS_AT_ONCE
};

/* The patch in shared memory, addressed in chunks of 16 bytes and in words of 4. */
__device__ inline int chunk_at(int row, int chunk) { return row * RUNS + (chunk ^ (row / RUN % RUNS)); }
__device__ inline int word_at(int row, int word) { return chunk_at(row, word / 4) * 4 + word % 4; }

/* The thread's 16 rows of 4 columns of the patch that begins at (row, column), to 4 rows of the transpose (columns, rows),
 * which begin `pitch` bytes apart. */
__device__ inline void write_columns(const uint4 *chunks, int64_t row, int64_t column, int64_t rows, int64_t columns,
                                     uint8_t *transposed, int64_t pitch) {
  const int row_block = threadIdx.x % RUNS, word_column = threadIdx.x / RUNS;
  const int64_t out_row = row + row_block * RUN, out_column = column + word_column * 4;
  if (out_row >= rows || out_column >= columns) return;
  const uint32_t *words = reinterpret_cast<const uint32_t *>(chunks);
  uint32_t word[4][4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) word[i][j] = words[word_at(row_block * RUN + 4 * i + j, word_column)];
    transpose_bytes(word[i]);
  }
  uint8_t *to = transposed + out_column * pitch + out_row;
#pragma unroll
  for (int c = 0; c < 4; c++) {
    store_vector(reinterpret_cast<uint4 *>(to + c * pitch), make_uint4(word[0][c], word[1][c], word[2][c], word[3][c]));
  }
}

} // namespace byte_patch

#endif
