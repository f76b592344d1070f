/* Quantization at the speed of memory, for aligned tensors: a piece of the tensor, usually a
 * block, is read into the registers of a group of threads, which finds its absmax, and is written as codes, decoded
 * values or both. Where scales are known, a piece may be a part of a block.
 *
 * A thread holds up to VECTORS vectors of 16 bytes; neighbouring threads of a group hold neighbouring vectors. Blocks
 * that need divisions (absmax without a finite reciprocal), or whose elements may lie outside of the look-up, are rare
 * and go through the general code one element at a time. */
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

/* --- the kernel --- */

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

/* DIVIDE: the scaled number is x / absmax, not x · (1 / absmax). SUM: adds up columns; every thread keeps to the same
 * ones, as PiecesPlan demands. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS, bool SUM>
__global__ void __launch_bounds__(SUM || is_stochastic<ENCODING> ? 512 : 1024)
    quantize_pieces_kernel(const __grid_constant__ PiecesPlan pieces) {
  constexpr int width = vector_width<Scalar>;
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ uint32_t warp_magnitude[2][WARP];
  const QuantizePlan &plan = pieces.quantize;
  Encoder<ENCODING> encoder = make_encoder<ENCODING>(stage, plan);
  if (DIVIDE && sizeof(Scalar) == 4) encoder.scale_by(0x1p-24f);
  float sum[VECTORS][width] = {};
  BlockScaling general = scaling_of<ENCODING>(plan, 0);
  if (pieces.maxima) {
    general = scaling_of_block<ENCODING>(plan, 0, whole_maximum(pieces.maxima, pieces.maxima_count));
  }
  const int group = pieces.group, groups = blockDim.x / group, lane = threadIdx.x & (group - 1);
  const int64_t turns = divide_up(pieces.count, groups);
  int parity = 0;
  uint4 raw[VECTORS], next[VECTORS];
  Piece piece = piece_at(pieces, turns, blockIdx.x, groups);
  load_piece<Scalar>(pieces, piece, lane, raw);
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t turned = blockIdx.x; turned < turns; turned += gridDim.x, parity ^= 1) {
    /* The next piece is on its way while this one is worked on. */
    const Piece following = piece_at(pieces, turns, turned + gridDim.x, groups);
    load_piece<Scalar>(pieces, following, lane, next);
    if (SUM) add_up<Scalar>(raw, sum);
    uint32_t magnitude = 0;
    if (!pieces.maxima) {
#pragma unroll
      for (int v = 0; v < VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
      magnitude = group_maximum(magnitude_bits(magnitude, Scalar()), group, warp_magnitude[parity]);
    }
    const int64_t block = pieces.pieces_a_block == 1 ? piece.number : divide(piece.number, pieces.pieces_a_block);
    if (plan.known_scale) {
      if (piece.length > 0) general = scaling_of<ENCODING>(plan, plan.known_scale[block]);
    } else if (!pieces.maxima) {
      general = scaling_of_block<ENCODING>(plan, piece.length > 0 ? block : 0, magnitude);
    }
    const bool first = lane == 0 && piece.length > 0 && piece.number == block * pieces.pieces_a_block;
    if (plan.scale && first) plan.scale[block] = general.scale;
    const VectorScaling scaling = vector_scaling<Scalar, ENCODING, DIVIDE>(plan, general, magnitude);
    if (__any_sync(all_lanes, scaling.slow)) {
      quantize_slowly<Scalar, ENCODING>(plan, scaling.general, piece.begin, piece.length, lane, group);
    } else {
      uint8_t *codes = plan.codes + piece.begin;
      Scalar *values = static_cast<Scalar *>(plan.values) + piece.begin;
#pragma unroll
      for (int v = 0; v < VECTORS; v++) {
        const int position = (lane + v * group) * width;
        if (position >= piece.length) break;
        if constexpr (ENCODING == ENCODING_STOCHASTIC) {
          const int64_t at = piece.begin + position;
          const Factors factors = {scaling.inverse, scaling.general.scale};
          const auto same = [&](int) { return factors; };
          const RandomBlock block = random_block(plan.random, (uint64_t)at / 8);
          const uint4 from = scaling.general.empty ? make_uint4(0, 0, 0, 0) : raw[v];
          if (plan.codes) encoder.template to_codes<Scalar>(plan.codes, block, from, same, at);
          if (plan.values) encoder.to_values(static_cast<Scalar *>(plan.values), block, from, same, at);
        } else if constexpr (ENCODING == ENCODING_STOCHASTIC_MAP) {
          float scaled[width];
          scale_vector<Scalar, DIVIDE>(scaling, raw[v], scaled);
          if (DIVIDE && sizeof(Scalar) == 4) {
#pragma unroll
            for (int k = 0; k < width; k++) scaled[k] *= 0x1p-24f;
          }
          encoder.template quantize<Scalar>(plan, scaled, scaling.general.scale, piece.begin + position);
        } else {
          uint32_t word[width / 4];
          quantize_vector<Scalar, ENCODING, DIVIDE>(plan, encoder, scaling, raw[v], word, values + position);
          if (plan.codes) store_codes(codes + position, word);
        }
      }
    }
    piece = following;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) raw[v] = next[v];
  }
  if (!SUM) return;
  float *partial = pieces.partials + blockIdx.x / pieces.strips * pieces.partial_width +
                   (blockIdx.x % pieces.strips * groups + threadIdx.x / group) * pieces.length;
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    const int position = (lane + v * group) * width;
    if (position >= pieces.length) break;
#pragma unroll
    for (int k = 0; k < width; k++) partial[position + k] = sum[v][k];
  }
}

/* --- launching --- */

template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS, bool SUM>
cudaError_t run(Launch launch, const PiecesPlan &plan) {
  const auto kernel = quantize_pieces_kernel<Scalar, ENCODING, DIVIDE, VECTORS, SUM>;
  const int grid = plan.grid > 0 ? plan.grid
                                 : resident_grid((const void *)kernel, launch, plan.threads,
                                                 plan.count * plan.group / plan.threads + 1);
  kernel<<<grid, plan.threads, 0, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, Encoding ENCODING, bool DIVIDE>
cudaError_t run_encoding(Launch launch, const PiecesPlan &plan) {
  if (!DIVIDE && plan.partials) return run<Scalar, ENCODING, false, 4, true>(launch, plan);
  if (!DIVIDE && plan.vectors == 2) return run<Scalar, ENCODING, false, 2, false>(launch, plan);
  return run<Scalar, ENCODING, DIVIDE, 4, false>(launch, plan);
}

template <typename Scalar> cudaError_t run_pieces(Launch launch, const PiecesPlan &plan) {
  if (plan.quantize.stochastic && plan.quantize.grid.bits == 0) {
    return plan.quantize.divide ? run_encoding<Scalar, ENCODING_STOCHASTIC_MAP, true>(launch, plan)
                                : run_encoding<Scalar, ENCODING_STOCHASTIC_MAP, false>(launch, plan);
  }
  if (plan.quantize.divide) return run_encoding<Scalar, ENCODING_MAP, true>(launch, plan);
  if (plan.quantize.stochastic) return run_encoding<Scalar, ENCODING_STOCHASTIC, false>(launch, plan);
  if (plan.quantize.grid.bits > 0) return run_encoding<Scalar, ENCODING_GRID, false>(launch, plan);
  return with_encoding(plan.quantize, [&](auto encoding) {
    return run_encoding<Scalar, decltype(encoding)::value, false>(launch, plan);
  });
}

} // namespace
