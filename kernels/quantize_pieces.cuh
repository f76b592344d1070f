/* Quantization at the speed of memory, for nearest rounding and aligned tensors: a piece of the tensor, usually a
 * block, is read into the registers of a group of threads, which finds its absmax, and is written as codes, decoded
 * values or both. Where scales are known, a piece may be a part of a block.
 *
 * A thread holds up to VECTORS vectors of 16 bytes; neighbouring threads of a group hold neighbouring vectors. Blocks
 * that need divisions (absmax without a finite reciprocal), or whose elements may lie outside of the look-up, are rare
 * and go through the general code one element at a time. */
#include "encode.cuh"
#include "vectors.cuh"

namespace {

/* --- scales --- */

/* What multiplies or divides a piece's elements; `slow` where only the general code will do. */
struct PieceScaling {
  Scaling general;
  float inverse, divisor; /* finite; 0 and 1 for an empty block */
  bool slow;
};

/* Every quotient is right between these (see `quotient`). */
template <typename Scalar> constexpr float smallest_divisor = sizeof(Scalar) == 2 ? 0x1p-30f : 0x1p-60f;
template <typename Scalar> constexpr float largest_divisor = sizeof(Scalar) == 2 ? 0x1p16f : 0x1p60f;

/* `magnitude`: the bits of the piece's largest |x|, needed only where the scale was given from outside. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline PieceScaling piece_scaling(const QuantizePlan &plan, float scale, uint32_t magnitude) {
  PieceScaling scaling;
  scaling.general = scaling_of<ENCODING>(plan, scale);
  scaling.inverse = scaling.general.empty ? 0.0f : scaling.general.inverse;
  scaling.divisor = scaling.general.empty ? 1.0f : scale;
  if (DIVIDE) {
    scaling.slow = !scaling.general.empty && !(scale >= smallest_divisor<Scalar> && scale <= largest_divisor<Scalar>);
  } else {
    scaling.slow = !scaling.general.empty && scaling.general.divide;
    /* A power of two that could not be rounded up: elements may lie outside of the look-up. */
    if (ENCODING == ENCODING_MAP && plan.scale_rounding) scaling.slow = scaling.slow || scale >= 0x1p127f;
  }
  if (ENCODING == ENCODING_MAP && plan.known_scale && !scaling.general.empty) {
    scaling.slow = scaling.slow || !(float_from_bits(magnitude) * fabsf(scaling.inverse) <= LOOKUP_LIMIT);
  }
  return scaling;
}

/* 2^24 · x / divisor for f32 elements and x / divisor for 16-bit ones, rounded to nearest even where the result is
 * normal; 0 exactly where x / divisor in float32 is 0. `inverse` is 1 / divisor rounded to nearest.
 *
 * x · inverse is off by less than 1.5 units in the last place; one correction by the remainder leaves it off by less
 * than one; then a second one gives the quotient rounded to nearest (Markstein, "Computation of elementary functions
 * on the IBM RISC System/6000 processor", 1990, theorem 8.3.1). Nothing of this overflows, and remainders are exact
 * wherever a map may have a threshold, for divisors in the range above. The factor of 2^24 keeps what float32 still
 * has as a quotient from vanishing here; `vanishing`, the largest |x| whose quotient is 0 in float32, makes 0 of the
 * rest. Quotients of 16-bit elements do not vanish: at least 2^-133 / 2^16. */
template <typename Scalar> __device__ inline float quotient(float x, float divisor, float inverse, float vanishing) {
  if (sizeof(Scalar) == 4) x = fabsf(x) <= vanishing ? 0.0f : x * 0x1p24f;
  float result = x * inverse;
  result = fmaf(fmaf(-result, divisor, x), inverse, result);
  return fmaf(fmaf(-result, divisor, x), inverse, result);
}

/* The largest of a group's magnitudes, for all of its threads; groups larger than a warp are synchronized together.
 * `shared` has a word for every warp and alternates between two arrays from call to call: one barrier is enough. */
__device__ inline uint32_t group_maximum(uint32_t magnitude, int group, uint32_t *shared) {
  for (int mask = min(group, WARP) / 2; mask > 0; mask /= 2) magnitude = max(magnitude, shuffle_xor(magnitude, mask));
  if (group <= WARP) return magnitude;
  const int warp = threadIdx.x / WARP, warps = group / WARP;
  if (threadIdx.x % WARP == 0) shared[warp] = magnitude;
  __syncthreads();
  const int first = warp / warps * warps;
  for (int i = first; i < first + warps; i++) magnitude = max(magnitude, shared[i]);
  return magnitude;
}

/* --- the rare general way --- */

template <typename Scalar, Encoding ENCODING>
__device__ inline void quantize_slowly(const QuantizePlan &plan, const Scaling &scaling, int64_t begin, int length,
                                       int lane, int group) {
  constexpr int width = vector_width<Scalar>;
  const Scalar *x = static_cast<const Scalar *>(plan.x) + begin;
#pragma unroll 1
  for (int first = lane * width; first < length; first += group * width) {
#pragma unroll 1
    for (int i = first; i < first + width; i++) {
      const uint8_t code = code_of<ENCODING>(plan, *plan.map, scaling, to_float(x[i]), false, 0);
      if (plan.codes) plan.codes[begin + i] = code;
      const float value = decode<ENCODING>(plan, plan.map->value, code) * scaling.scale;
      if (plan.values) from_float(value, true, static_cast<Scalar *>(plan.values)[begin + i]);
    }
  }
}

/* --- the kernel --- */

struct Piece {
  int64_t number, begin;
  int length; /* 0 beyond the last element */
};

/* The thread's piece in a thread block's turn. After a pass over the whole tensor its end is still in the cache, so
 * that comes first. */
__device__ inline Piece piece_at(const PiecesPlan &pieces, int64_t tiles, int64_t turned, int groups) {
  Piece piece;
  piece.number = (pieces.maxima ? tiles - 1 - turned : turned) * groups + threadIdx.x / pieces.group;
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

__device__ inline void store_codes(uint8_t *codes, const uint32_t (&word)[1]) {
  *reinterpret_cast<uint32_t *>(codes) = word[0];
}
__device__ inline void store_codes(uint8_t *codes, const uint32_t (&word)[2]) {
  *reinterpret_cast<uint2 *>(codes) = make_uint2(word[0], word[1]);
}

/* Encodes and writes one vector. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline void quantize_vector(const QuantizePlan &plan, const Encoder<ENCODING> &encoder,
                                       const PieceScaling &scaling, float vanishing, uint4 raw, uint8_t *codes_out,
                                       Scalar *values_out) {
  constexpr int width = vector_width<Scalar>;
  if (scaling.general.empty) raw = make_uint4(0, 0, 0, 0);
  float value[width];
  uint32_t word[width / 4][4];
  unpack<Scalar>(raw, value);
#pragma unroll
  for (int k = 0; k < width; k++) {
    value[k] =
        DIVIDE ? quotient<Scalar>(value[k], scaling.divisor, scaling.inverse, vanishing) : value[k] * scaling.inverse;
  }
#pragma unroll
  for (int k = 0; k < width / 4; k++) {
    encoder.encode(value + 4 * k, word[k]);
    if (ENCODING != ENCODING_MAP && scaling.general.broken) word[k][0] = 0x7F7F7F7Fu;
  }
  if (plan.codes) {
    uint32_t codes[width / 4];
#pragma unroll
    for (int k = 0; k < width / 4; k++) codes[k] = encoder.codes(word[k]);
    store_codes(codes_out, codes);
  }
  if (plan.values) {
#pragma unroll
    for (int k = 0; k < width / 4; k++) encoder.decode(word[k], value + 4 * k);
#pragma unroll
    for (int k = 0; k < width; k++) value[k] *= scaling.general.scale;
    *reinterpret_cast<uint4 *>(values_out) = pack<Scalar>(value);
  }
}

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
__global__ void __launch_bounds__(SUM ? 512 : 1024) quantize_pieces_kernel(const __grid_constant__ PiecesPlan pieces) {
  constexpr int width = vector_width<Scalar>;
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ uint32_t warp_magnitude[2][WARP];
  const QuantizePlan &plan = pieces.quantize;
  Encoder<ENCODING> encoder(stage, plan.map);
  if (DIVIDE && sizeof(Scalar) == 4) encoder.scale_by(0x1p-24f);
  float scale = 0, sum[VECTORS][width] = {};
  if (pieces.maxima) scale = scale_of<ENCODING>(plan, whole_maximum(pieces.maxima, pieces.maxima_count));
  const int group = pieces.group, groups = blockDim.x / group, lane = threadIdx.x & (group - 1);
  const int64_t tiles = (pieces.count + groups - 1) / groups;
  int turn = 0;
  uint4 raw[VECTORS], next[VECTORS];
  Piece piece = piece_at(pieces, tiles, blockIdx.x, groups);
  load_piece<Scalar>(pieces, piece, lane, raw);
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t turned = blockIdx.x; turned < tiles; turned += gridDim.x, turn ^= 1) {
    /* The next piece is on its way while this one is worked on. */
    const Piece following = piece_at(pieces, tiles, turned + gridDim.x, groups);
    load_piece<Scalar>(pieces, following, lane, next);
    if (SUM) add_up<Scalar>(raw, sum);
    uint32_t magnitude = 0;
    if (!pieces.maxima) {
#pragma unroll
      for (int v = 0; v < VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
      magnitude = group_maximum(magnitude_bits(magnitude, Scalar()), group, warp_magnitude[turn]);
    }
    const int64_t block = pieces.pieces_a_block == 1 ? piece.number : divide(piece.number, pieces.pieces_a_block);
    if (plan.known_scale) {
      if (piece.length > 0) scale = plan.known_scale[block];
    } else if (!pieces.maxima) {
      scale = scale_of<ENCODING>(plan, magnitude);
    }
    const bool first = lane == 0 && piece.length > 0 && piece.number == block * pieces.pieces_a_block;
    if (plan.scale && first) plan.scale[block] = scale;
    const PieceScaling scaling = piece_scaling<Scalar, ENCODING, DIVIDE>(plan, scale, magnitude);
    if (__any_sync(all_lanes, scaling.slow)) {
      quantize_slowly<Scalar, ENCODING>(plan, scaling.general, piece.begin, piece.length, lane, group);
    } else {
      const float vanishing = DIVIDE ? floorf(scaling.divisor * 0.5f) * 0x1p-149f : 0;
      uint8_t *codes = plan.codes + piece.begin;
      Scalar *values = static_cast<Scalar *>(plan.values) + piece.begin;
#pragma unroll
      for (int v = 0; v < VECTORS; v++) {
        const int position = (lane + v * group) * width;
        if (position >= piece.length) break;
        quantize_vector<Scalar, ENCODING, DIVIDE>(plan, encoder, scaling, vanishing, raw[v], codes + position,
                                                  values + position);
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
  switch (encoding_of(plan.quantize)) {
  case ENCODING_MAP:
    return plan.quantize.divide ? run_encoding<Scalar, ENCODING_MAP, true>(launch, plan)
                                : run_encoding<Scalar, ENCODING_MAP, false>(launch, plan);
  case ENCODING_E4M3:
    return run_encoding<Scalar, ENCODING_E4M3, false>(launch, plan);
  default:
    return run_encoding<Scalar, ENCODING_E5M2, false>(launch, plan);
  }
}

} // namespace
