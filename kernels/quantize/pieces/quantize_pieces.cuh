/* Quantization at the speed of memory, for aligned tensors: a piece of the tensor, usually a
 * block, is read into the registers of a group of threads, which finds its absmax, and is written as codes, decoded
 * values or both. Where scales are known, a piece may be a part of a block.
 *
 * A thread holds up to VECTORS vectors of 16 bytes; neighbouring threads of a group hold neighbouring vectors. Blocks
 * that need divisions (absmax without a finite reciprocal), or whose elements may lie outside of the look-up, are rare
 * and go through the general code one element at a time. */
#include "following.cuh"
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

enum { SUMMING_THREADS = 512 }; /* at most */
template <Encoding ENCODING> constexpr int most_threads = is_stochastic<ENCODING> ? 512 : 1024;

/* --- a piece --- */

/* Its scale, kept if it is the block's first piece. `whole`: the whole tensor's largest magnitude, if there are maxima. */
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
  int64_t block = pieces.pieces_a_block == 1 ? piece.number : divide(piece.number, pieces.pieces_a_block);
  const bool first = lane == 0 && piece.length > 0 && piece.number == block * pieces.pieces_a_block;
  if (piece.length == 0) block = 0;
  const BlockScaling scaling = plan.known_scale ? scaling_of<ENCODING>(plan, plan.known_scale[block])
                                                : scaling_of_block<ENCODING>(plan, block, magnitude);
  if (plan.scale && first) plan.scale[block] = scaling.scale;
  return vector_scaling<Scalar, ENCODING, DIVIDE>(plan, scaling, magnitude);
}

/* The vectors wait in shared memory, of which each thread has its own, so that the loop over them need not be unrolled:
 * instructions would be more than the cache for them holds. FULL: whether there is something of the piece in each. */
template <typename Scalar, bool FULL, int VECTORS>
__device__ inline void write_piece_at_random(const PiecesPlan &pieces, const Encoder<ENCODING_STOCHASTIC> &encoder,
                                             const Piece &piece, int lane, const uint4 *vector,
                                             const VectorScaling &scaling) {
  constexpr int width = vector_width<Scalar>;
  const QuantizePlan &plan = pieces.quantize;
  const Factors factors = {scaling.inverse, scaling.general.scale};
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
  if constexpr (ENCODING == ENCODING_STOCHASTIC) {
    extern __shared__ uint4 vectors[]; /* VECTORS for each thread */
    uint4 *own = vectors + threadIdx.x;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) own[v * blockDim.x] = scaling.general.empty ? make_uint4(0, 0, 0, 0) : raw[v];
    if (piece.length == VECTORS * group * width) {
      write_piece_at_random<Scalar, true, VECTORS>(pieces, encoder, piece, lane, own, scaling);
    } else {
      write_piece_at_random<Scalar, false, VECTORS>(pieces, encoder, piece, lane, own, scaling);
    }
  } else {
    uint8_t *codes = plan.codes + piece.begin;
    Scalar *values = static_cast<Scalar *>(plan.values) + piece.begin;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
      const int position = (lane + v * group) * width;
      if (position >= piece.length) break;
      if constexpr (ENCODING == ENCODING_STOCHASTIC_MAP) {
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
}

/* --- the kernels --- */

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
template <typename Scalar, Encoding ENCODING, int VECTORS>
__global__ void __launch_bounds__(most_threads<ENCODING>, ENCODING == ENCODING_STOCHASTIC ? 2 : 1)
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
  const VectorScaling scaling = scale_piece<Scalar, ENCODING, false>(pieces, piece, lane, raw, whole, warp_magnitude);
  write_piece<Scalar, ENCODING, false>(pieces, encoder, piece, lane, raw, scaling);
}

/* --- launching --- */

template <Encoding ENCODING> int shared_bytes(int vectors, int threads) {
  return ENCODING == ENCODING_STOCHASTIC ? vectors * threads * (int)sizeof(uint4) : 0;
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

template <typename Scalar, Encoding ENCODING, int VECTORS> cudaError_t run_once(Launch launch, const PiecesPlan &plan) {
  const int threads = plan.group > ONCE_THREADS ? plan.group : ONCE_THREADS;
  const unsigned grid = (unsigned)divide_up(plan.count, (int64_t)(threads / plan.group));
  const int shared = shared_bytes<ENCODING>(VECTORS, threads);
  quantize_pieces_once_kernel<Scalar, ENCODING, VECTORS><<<grid, threads, shared, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar, Encoding ENCODING> cudaError_t run_encoding(Launch launch, const PiecesPlan &plan) {
  constexpr int many = ENCODING == ENCODING_STOCHASTIC ? 8 : 4;
  if (plan.partials) return run<Scalar, ENCODING, false, 4, true>(launch, plan);
  if constexpr (ENCODING == ENCODING_MAP) {
    if (plan.stays && plan.vectors == 2) return run<Scalar, ENCODING, false, 2, false>(launch, plan);
    if (plan.stays) return run<Scalar, ENCODING, false, 4, false>(launch, plan);
  }
  return run_once<Scalar, ENCODING, many>(launch, plan);
}

template <typename Scalar> cudaError_t run_stochastic_map(Launch launch, const PiecesPlan &plan) {
  if (plan.quantize.divide) return run<Scalar, ENCODING_STOCHASTIC_MAP, true, 4, false>(launch, plan);
  if (plan.partials) return run<Scalar, ENCODING_STOCHASTIC_MAP, false, 4, true>(launch, plan);
  if (plan.vectors == 2) return run<Scalar, ENCODING_STOCHASTIC_MAP, false, 2, false>(launch, plan);
  return run<Scalar, ENCODING_STOCHASTIC_MAP, false, 4, false>(launch, plan);
}

template <typename Scalar> cudaError_t run_pieces(Launch launch, const PiecesPlan &plan) {
  if (plan.quantize.stochastic && plan.quantize.grid.bits == 0) return run_stochastic_map<Scalar>(launch, plan);
  if (plan.quantize.divide) return run<Scalar, ENCODING_MAP, true, 4, false>(launch, plan);
  if (plan.quantize.stochastic) return run_encoding<Scalar, ENCODING_STOCHASTIC>(launch, plan);
  if (plan.quantize.grid.bits > 0) return run_encoding<Scalar, ENCODING_GRID>(launch, plan);
  return with_encoding(plan.quantize,
                       [&](auto encoding) { return run_encoding<Scalar, decltype(encoding)::value>(launch, plan); });
}

} // namespace
