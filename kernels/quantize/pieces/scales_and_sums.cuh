/* What the kernels of quantize_pieces.cuh and stochastic_map.cuh share: a piece's scale, what is left to the general code,
 * and sums of columns. */
#ifndef FP8_SCALES_AND_SUMS_CUH
#define FP8_SCALES_AND_SUMS_CUH

#include "quantize/pieces/pieces.cuh"

namespace {

template <typename Scalar, Encoding ENCODING>
__device__ inline void quantize_slowly(const QuantizePlan &plan, const BlockScaling &scaling, int64_t begin, int length,
                                       int lane, int group) {
  constexpr int width = vector_width<Scalar>;
#pragma unroll 1
  for (int first = lane * width; first < length; first += group * width) {
    const int64_t at = begin + first;
    uint32_t codes[width / 4];
    quantize_vector_slowly<Scalar, ENCODING>(plan, scaling, static_cast<const Scalar *>(plan.x) + at, codes,
                                             static_cast<Scalar *>(plan.values) + at);
    if (plan.codes) store_codes(plan.codes + at, codes);
  }
}

/* Its scale, kept if it is the block's first piece, from the block's largest magnitude. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline VectorScaling scale_measured_piece(const PiecesPlan &pieces, const Piece &piece, int lane,
                                                     uint32_t magnitude) {
  const QuantizePlan &plan = pieces.quantize;
  int64_t block = piece.number;
  bool first = lane == 0 && piece.length > 0;
  if (pieces.pieces_a_block != 1) {
    block = divide(piece.number, pieces.pieces_a_block);
    first = first && piece.number == block * pieces.pieces_a_block;
  }
  if (piece.length == 0) block = 0;
  const BlockScaling scaling = plan.known_scale ? scaling_of<ENCODING>(plan, plan.known_scale[block])
                                                : scaling_of_block<ENCODING>(plan, block, magnitude);
  if (plan.scale && first) plan.scale[block] = scaling.scale;
  return vector_scaling<Scalar, ENCODING, DIVIDE>(plan, scaling, magnitude);
}

enum { SUMMING_THREADS = 512 }; /* at most */

template <typename Scalar, int VECTORS>
__device__ inline void add_up(const uint4 (&raw)[VECTORS], float (&sum)[VECTORS][vector_width<Scalar>]) {
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    float value[vector_width<Scalar>];
    unpack<Scalar>(raw[v], value);
#pragma unroll
    for (int k = 0; k < vector_width<Scalar>; k++) sum[v][k] += value[k];
  }
}

/* A thread block's sums of columns, of a part of a row or of several rows, as a row of partials or a part of one. */
template <typename Scalar, int VECTORS>
__device__ inline void write_sums(const PiecesPlan &pieces, int lane, float (&sum)[VECTORS][vector_width<Scalar>]) {
  constexpr int width = vector_width<Scalar>;
  __shared__ float4 shared[SUMMING_THREADS];
  const int group = pieces.group, columns = (int)pieces.columns;
  const bool rows = pieces.length > pieces.columns; /* a piece is */
  /* A thread's vectors with columns of their own; those of later ones are the same. */
  const int distinct = rows ? max(columns / (group * width), 1) : VECTORS;
#pragma unroll
  for (int v = 1; v < VECTORS; v++) {
#pragma unroll
    for (int k = 0; k < width; k++) {
      if (distinct == 1) sum[0][k] += sum[v][k];
      if (distinct == 2 && v >= 2) sum[v % 2][k] += sum[v][k];
    }
  }
  /* Threads so far apart have the same columns. */
  const int64_t span = blockDim.x / group * pieces.length;
  const int apart = rows                    ? min(columns / width, group)
                    : span > pieces.columns ? (int)(blockDim.x / divide(span, pieces.columns))
                                            : (int)blockDim.x;
  const int64_t first = blockIdx.x % pieces.strips * span + (threadIdx.x / group * pieces.length + lane * width);
  float *partial = pieces.partials + blockIdx.x / pieces.strips * pieces.columns + first;
#pragma unroll
  for (int i = 0; i < VECTORS * width / 4; i++) {
    const int v = i / (width / 4), k = i % (width / 4) * 4, further = v * group * width;
    if (v >= distinct) break;
    __syncthreads();
    shared[threadIdx.x] = make_float4(sum[v][k], sum[v][k + 1], sum[v][k + 2], sum[v][k + 3]);
    __syncthreads();
    if ((int)threadIdx.x >= apart || lane * width + further >= pieces.length) continue;
    float4 total = shared[threadIdx.x];
    for (int j = threadIdx.x + apart; j < (int)blockDim.x; j += apart) {
      const float4 other = shared[j];
      total = make_float4(total.x + other.x, total.y + other.y, total.z + other.z, total.w + other.w);
    }
    *reinterpret_cast<float4 *>(partial + further + k) = total;
  }
}

} // namespace

#endif
