/* Quantization at the speed of memory, for aligned tensors: a piece of the tensor, usually a
 * block, is read into the registers of a group of threads, which finds its absmax, and is written as codes, decoded
 * values or both. Where scales are known, a piece may be a part of a block.
 *
 * A thread holds up to VECTORS vectors of 16 bytes; neighbouring threads of a group hold neighbouring vectors. Blocks
 * that need divisions (absmax without a finite reciprocal), or whose elements may lie outside of the look-up, are rare
 * and go through the general code one element at a time. */
#include "following.cuh"
#include "quantize/pieces/stochastic_map.cuh"

namespace {

template <Encoding ENCODING> constexpr int most_threads = is_stochastic<ENCODING> ? 512 : 1024;

/* --- a piece --- */

/* The scale of one that is yet to be measured. `whole`: the whole tensor's largest magnitude, if there are maxima. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS>
__device__ inline VectorScaling scale_piece(const PiecesPlan &pieces, const Piece &piece, int lane,
                                            const uint4 (&raw)[VECTORS], uint32_t whole, uint32_t *warp_magnitude) {
  const QuantizePlan &plan = pieces.quantize;
  uint32_t magnitude = whole;
  if (!pieces.maxima && (is_looked_up<ENCODING> || !plan.known_scale)) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
    magnitude = group_maximum(magnitude_bits(magnitude, Scalar()), pieces.group, warp_magnitude);
  }
  return scale_measured_piece<Scalar, ENCODING, DIVIDE>(pieces, piece, lane, magnitude);
}

/* The vectors wait in shared memory, of which each thread has its own, so that the loop over them need not be unrolled:
 * instructions would be more than the cache for them holds. FULL: whether there is something of the piece in each. */
template <typename Scalar, bool FULL, int VECTORS, typename Rounder, typename Scaling>
__device__ inline void write_vectors_at_random(const PiecesPlan &pieces, const Rounder &encoder, const Piece &piece,
                                               int lane, const uint4 *vector, const Scaling &factors) {
  constexpr int width = vector_width<Scalar>;
  const QuantizePlan &plan = pieces.quantize;
  const auto same = [&](int) { return factors; };
  const RandomKeys keys(plan.random);
  /* Two at a time: the rounds of a block wait for one another. */
  const auto with_blocks = [&](const auto &write) {
#pragma unroll 1
    for (int v = 0; v < VECTORS; v += 2) {
      const int position = (lane + v * pieces.group) * width, next = position + pieces.group * width;
      const int64_t at = piece.begin + position, then = piece.begin + next;
      const RandomBlock one = keys.block_at(plan.random.offset + (uint64_t)at / 8);
      const RandomBlock other = keys.block_at(plan.random.offset + (uint64_t)then / 8);
      if (FULL || position < piece.length) write(one, vector[v * blockDim.x], at);
      if (FULL || next < piece.length) write(other, vector[(v + 1) * blockDim.x], then);
    }
  };
  if (uint8_t *codes = plan.codes) {
    with_blocks([&](const RandomBlock &block, const uint4 &from, int64_t at) {
      encoder.template to_codes<Scalar>(codes, block, from, same, at);
    });
  }
  if (Scalar *values = static_cast<Scalar *>(plan.values)) {
    with_blocks([&](const RandomBlock &block, const uint4 &from, int64_t at) {
      encoder.to_values(values, block, from, same, at);
    });
  }
}

template <typename Scalar, int VECTORS, typename Rounder, typename Scaling>
__device__ inline void write_piece_at_random(const PiecesPlan &pieces, const Rounder &encoder, const Piece &piece,
                                             int lane, const uint4 *vector, const Scaling &factors) {
  if (piece.length == VECTORS * pieces.group * vector_width<Scalar>) {
    write_vectors_at_random<Scalar, true, VECTORS>(pieces, encoder, piece, lane, vector, factors);
  } else {
    write_vectors_at_random<Scalar, false, VECTORS>(pieces, encoder, piece, lane, vector, factors);
  }
}

__device__ inline const Stochastic<0> &rounder_of(const QuantizePlan &, const Encoder<ENCODING_STOCHASTIC> &encoder) {
  return encoder;
}
__device__ inline Stochastic<23> rounder_of(const QuantizePlan &plan, const Encoder<ENCODING_POWERS> &) {
  return Stochastic<23>(plan);
}

/* Factors where elements are divided. */
template <typename Scalar> struct Quotients {
  float scale, divisor, inverse, vanishing;
  __device__ float scaled(float x) const {
    const float result = quotient<Scalar>(x, divisor, inverse, vanishing);
    return sizeof(Scalar) == 4 ? result * 0x1p-24f : result;
  }
};

template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS>
__device__ inline void write_piece(const PiecesPlan &pieces, const Encoder<ENCODING> &encoder, const Piece &piece,
                                   int lane, const uint4 (&raw)[VECTORS], const VectorScaling &scaling) {
  constexpr int width = vector_width<Scalar>;
  const QuantizePlan &plan = pieces.quantize;
  const int group = pieces.group;
  if (__any_sync(all_lanes, scaling.slow)) {
    quantize_slowly<Scalar, ENCODING>(plan, scaling.general, piece.begin, piece.length, lane, group);
    return;
  }
  if constexpr (is_at_random<ENCODING>) {
    extern __shared__ uint4 vectors[]; /* VECTORS for each thread */
    uint4 *own = vectors + threadIdx.x;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) own[v * blockDim.x] = scaling.general.empty ? make_uint4(0, 0, 0, 0) : raw[v];
    const Factors factors = {scaling.inverse, scaling.general.scale};
    if constexpr (DIVIDE) {
      const Quotients<Scalar> quotients = {factors.scale, scaling.divisor, scaling.inverse, scaling.vanishing};
      write_piece_at_random<Scalar, VECTORS>(pieces, rounder_of(plan, encoder), piece, lane, own, quotients);
    } else {
      write_piece_at_random<Scalar, VECTORS>(pieces, rounder_of(plan, encoder), piece, lane, own, factors);
    }
  } else {
    uint8_t *codes = plan.codes + piece.begin;
    Scalar *values = static_cast<Scalar *>(plan.values) + piece.begin;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
      const int position = (lane + v * group) * width;
      if (position >= piece.length) break;
      uint32_t word[width / 4];
      quantize_vector<Scalar, ENCODING, DIVIDE>(plan, encoder, scaling, raw[v], word, values + position);
      if (plan.codes) store_codes(codes + position, word);
    }
  }
}

/* --- the kernels --- */

/* Thread blocks that stay. DIVIDE: the scaled number is x / absmax, not x · (1 / absmax). SUM: adds up columns; every
 * thread keeps to the same ones, as PiecesPlan demands. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS, bool SUM>
__global__ void __launch_bounds__(SUM ? SUMMING_THREADS : most_threads<ENCODING>)
    quantize_pieces_kernel(const __grid_constant__ PiecesPlan pieces) {
  constexpr int width = vector_width<Scalar>;
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ uint32_t warp_magnitude[2][WARP];
  const QuantizePlan &plan = pieces.quantize;
  const int group = pieces.group, groups = blockDim.x / group, lane = threadIdx.x & (group - 1);
  const int64_t turns = divide_up(pieces.count, groups);
  int parity = 0;
  uint4 raw[VECTORS], next[VECTORS];
  Piece piece = piece_at(pieces, turns, blockIdx.x, groups);
  load_piece<Scalar>(pieces, piece, lane, raw); /* on its way while the rest is set up */
  Encoder<ENCODING> encoder = make_encoder<ENCODING>(stage, plan);
  if (DIVIDE && sizeof(Scalar) == 4) encoder.scale_by(0x1p-24f);
  float sum[VECTORS][width] = {};
  const uint32_t whole = pieces.maxima ? whole_maximum(pieces.maxima, pieces.maxima_count) : 0;
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t turned = blockIdx.x; turned < turns; turned += gridDim.x, parity ^= 1) {
    /* The next piece is on its way while this one is worked on. */
    const Piece following = piece_at(pieces, turns, turned + gridDim.x, groups);
    load_piece<Scalar>(pieces, following, lane, next);
    if (SUM) add_up<Scalar>(raw, sum);
    const VectorScaling scaling =
        scale_piece<Scalar, ENCODING, DIVIDE>(pieces, piece, lane, raw, whole, warp_magnitude[parity]);
    write_piece<Scalar, ENCODING, DIVIDE>(pieces, encoder, piece, lane, raw, scaling);
    piece = following;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) raw[v] = next[v];
  }
  if constexpr (SUM) {
    let_next_start();
    write_sums<Scalar>(pieces, lane, sum);
  }
}

/* Thread blocks that come and go with a piece for each of their groups: where there is nothing to set up, more of them
 * have room at once, and none waits for the others. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS>
__global__ void __launch_bounds__(most_threads<ENCODING>, is_at_random<ENCODING> ? 2 : 1)
    quantize_pieces_once_kernel(const __grid_constant__ PiecesPlan pieces) {
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ uint32_t warp_magnitude[WARP];
  const QuantizePlan &plan = pieces.quantize;
  const int groups = blockDim.x / pieces.group, lane = threadIdx.x & (pieces.group - 1);
  const Piece piece = piece_at(pieces, gridDim.x, blockIdx.x, groups);
  uint4 raw[VECTORS];
  load_piece<Scalar>(pieces, piece, lane, raw);
  const Encoder<ENCODING> encoder = make_encoder<ENCODING>(stage, plan);
  const uint32_t whole = pieces.maxima ? whole_maximum(pieces.maxima, pieces.maxima_count) : 0;
  const VectorScaling scaling = scale_piece<Scalar, ENCODING, DIVIDE>(pieces, piece, lane, raw, whole, warp_magnitude);
  write_piece<Scalar, ENCODING, DIVIDE>(pieces, encoder, piece, lane, raw, scaling);
}

/* --- launching --- */

template <Encoding ENCODING> int shared_bytes(int vectors, int threads) {
  return is_at_random<ENCODING> ? vectors * threads * (int)sizeof(uint4) : 0;
}

template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS, bool SUM>
cudaError_t run(Launch launch, const PiecesPlan &plan) {
  const auto kernel = quantize_pieces_kernel<Scalar, ENCODING, DIVIDE, VECTORS, SUM>;
  const int shared = shared_bytes<ENCODING>(VECTORS, plan.threads);
  const int grid = plan.grid > 0 ? plan.grid
                                 : resident_grid((const void *)kernel, launch, plan.threads,
                                                 plan.count * plan.group / plan.threads + 1);
  kernel<<<grid, plan.threads, shared, launch.stream>>>(plan);
  return cudaGetLastError();
}

enum { ONCE_THREADS = 128 };

template <typename Scalar, Encoding ENCODING, bool DIVIDE, int VECTORS>
cudaError_t run_once(Launch launch, const PiecesPlan &plan) {
  const int threads = plan.group > ONCE_THREADS ? plan.group : ONCE_THREADS;
  const unsigned grid = (unsigned)divide_up(plan.count, (int64_t)(threads / plan.group));
  const int shared = shared_bytes<ENCODING>(VECTORS, threads);
  quantize_pieces_once_kernel<Scalar, ENCODING, DIVIDE, VECTORS><<<grid, threads, shared, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, Encoding ENCODING> cudaError_t run_encoding(Launch launch, const PiecesPlan &plan) {
  constexpr int many = is_at_random<ENCODING> ? 8 : 4;
  if (plan.partials) return run<Scalar, ENCODING, false, 4, true>(launch, plan);
  if constexpr (ENCODING == ENCODING_MAP) {
    if (plan.stays && plan.vectors == 2) return run<Scalar, ENCODING, false, 2, false>(launch, plan);
    if (plan.stays) return run<Scalar, ENCODING, false, 4, false>(launch, plan);
  }
  return run_once<Scalar, ENCODING, false, many>(launch, plan);
}

template <typename Scalar> cudaError_t run_pieces(Launch launch, const PiecesPlan &plan) {
  if (plan.quantize.powers.count > 0) {
    if (plan.quantize.divide) return run_once<Scalar, ENCODING_POWERS, true, 8>(launch, plan);
    return run_encoding<Scalar, ENCODING_POWERS>(launch, plan);
  }
  if (plan.quantize.stochastic && plan.quantize.grid.bits == 0) return launch_stochastic_map<Scalar>(launch, plan);
  if (plan.quantize.divide) return run<Scalar, ENCODING_MAP, true, 4, false>(launch, plan);
  if (plan.quantize.stochastic) return run_encoding<Scalar, ENCODING_STOCHASTIC>(launch, plan);
  if (plan.quantize.grid.bits > 0) return run_encoding<Scalar, ENCODING_GRID>(launch, plan);
  return with_encoding(plan.quantize,
                       [&](auto encoding) { return run_encoding<Scalar, decltype(encoding)::value>(launch, plan); });
}

} // namespace
