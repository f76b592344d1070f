/* Pieces of a tensor in the registers of groups of threads (PiecesPlan), as the quantization kernels and the comparison
 * read them. */
#ifndef FP8_PIECES_CUH
#define FP8_PIECES_CUH

#include "quantize/vector.cuh"

namespace {

struct Piece {
  int64_t number, begin;
  int length; /* 0 beyond the last element */
};

/* The thread's piece in a thread block's turn. After a pass over the whole tensor its end is still in the cache, so
 * that comes first. */
__device__ inline Piece piece_at(const PiecesPlan &pieces, int64_t turns, int64_t turned, int groups) {
  Piece piece;
  piece.number = (pieces.maxima ? turns - 1 - turned : turned) * groups + threadIdx.x / pieces.group;
  piece.begin = piece.number * pieces.length;
  piece.length = (int)max(min(pieces.length, pieces.quantize.count - piece.begin), (int64_t)0);
  if (piece.number < 0) piece.length = 0;
  return piece;
}

template <typename Scalar, int VECTORS>
__device__ inline void load_piece(const PiecesPlan &pieces, const Piece &piece, int lane, uint4 (&raw)[VECTORS]) {
  const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(pieces.quantize.x) + piece.begin);
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    const int vector = lane + v * pieces.group;
    raw[v] = make_uint4(0, 0, 0, 0);
    if (vector * vector_width<Scalar> < piece.length) raw[v] = read_once(from + vector);
  }
}

} // namespace

#endif
