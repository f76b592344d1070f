/* What quantizing does to a tensor, in one pass over it at the speed of memory: elements are quantized in registers, as
 * the kernels for pieces do it (pieces.cuh), and what they become is compared at once and written nowhere. Also the
 * same of a tensor that is not quantized.
 *
 * A thread adds up the at most COMPARE_VECTORS vectors of a piece in float32 and that to its doubles. In between,
 * numbers are multiplied by a power of two that brings the piece's largest magnitude into [1, 4), so that their squares
 * neither overflow nor vanish. Pieces with elements that are not finite, and those for which there is no fast code, go
 * through the general code one element at a time. */
#include "compare/compare.h"
#include "compare/tally.cuh"
#include "quantize/pieces/pieces.cuh"

namespace {

enum { BLOCK = 256 };

/* Of a thread's part of a piece. */
struct Sums {
  float sum, square_sum, error_square_sum, relative_error;
  uint32_t nonzeros; /* of both halves for 16-bit elements */
  uint32_t vanished; /* values that are 0 */
  uint32_t saturated, saturated_to_zero;
};

/* A power of two with its reciprocal, neither subnormal; `magnitude`: the bits of the largest, finite, number. */
struct Normalizer {
  float factor;
  double unit;
};

__device__ inline Normalizer normalizer_of(uint32_t magnitude) {
  const uint32_t exponent = min(max(magnitude >> 23, 1u), 253u);
  return {float_from_bits((254 - exponent) << 23), (double)float_from_bits(exponent << 23)};
}

/* Within one unit in the last place, for numbers that are not subnormal. */
__device__ inline float approximate_reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return 1.0f / x;
#endif
}

template <typename Scalar> __device__ inline uint32_t count_nonzeros(uint32_t word) {
  if (sizeof(Scalar) == 2) return __vminu2(word & 0x7FFF7FFFu, 0x00010001u);
  return min(word & 0x7FFFFFFFu, 1u);
}

template <typename Scalar> __device__ inline uint32_t count_nonzeros(const uint4 &raw) {
  return count_nonzeros<Scalar>(raw.x) + count_nonzeros<Scalar>(raw.y) + count_nonzeros<Scalar>(raw.z) +
         count_nonzeros<Scalar>(raw.w);
}

/* Of both halves. */
template <typename Scalar> __device__ inline uint32_t total_of(uint32_t nonzeros) {
  return sizeof(Scalar) == 2 ? (nonzeros & 0xFFFFu) + (nonzeros >> 16) : nonzeros;
}

/* The sums of `count` finite elements. */
template <typename Scalar>
__device__ inline void settle(Tally &all, const Sums &sums, const Normalizer &normalizer, int count) {
  const uint32_t zeros = count - total_of<Scalar>(sums.nonzeros);
  const double unit = normalizer.unit, square = unit * unit;
  all.count += count;
  all.zeros += zeros;
  all.underflow += sums.vanished - zeros - sums.saturated_to_zero;
  all.saturated += sums.saturated;
  all.sum += (double)sums.sum * unit;
  all.square_sum += (double)sums.square_sum * square;
  all.error_square_sum += (double)sums.error_square_sum * square;
  if (sums.relative_error > all.relative_error) all.relative_error = sums.relative_error; /* NaN stays */
}

/* --- quantized --- */

/* Finite elements, and values that are not NaN. */
template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__device__ inline void take_vector(Sums &sums, const ComparePiecesPlan &plan, const Encoder<ENCODING> &encoder,
                                   const VectorScaling &scaling, float factor, bool saturating, const uint4 &raw) {
  constexpr int width = vector_width<Scalar>;
  float x[width], value[width];
  uint32_t word[width / 4][4];
  unpack<Scalar>(raw, x);
  encode_vector<Scalar, ENCODING, DIVIDE>(encoder, scaling, raw, word);
  decode_vector<ENCODING>(encoder, scaling, word, value);
  if (plan.round) unpack<Scalar>(pack<Scalar>(value), value);
  sums.nonzeros += count_nonzeros<Scalar>(raw);
#pragma unroll
  for (int k = 0; k < width; k++) {
    const float own = x[k] * factor, error = (x[k] - value[k]) * factor;
    sums.sum += own;
    sums.square_sum = fmaf(own, own, sums.square_sum);
    sums.error_square_sum = fmaf(error, error, sums.error_square_sum);
    const float ratio = fabsf(error) * approximate_reciprocal(fabsf(own));
    if (value[k] == 0) {
      sums.vanished++;
    } else {
      sums.relative_error = fmaxf(sums.relative_error, ratio);
    }
  }
  if (!saturating) return;
  const float low = plan.low * scaling.general.scale, high = plan.high * scaling.general.scale;
#pragma unroll
  for (int k = 0; k < width; k++) {
    const bool outside = x[k] > high || x[k] < low;
    sums.saturated += outside;
    sums.saturated_to_zero += outside && value[k] == 0;
  }
}

/* The thread's elements of a piece. */
template <typename Scalar, Encoding ENCODING>
__device__ inline void take_slowly(Tally &all, const ComparePiecesPlan &plan, const BlockScaling &scaling,
                                   const Piece &piece, int lane) {
  constexpr int width = vector_width<Scalar>;
  const QuantizePlan &quantize = plan.pieces.quantize;
  const float low = plan.low * scaling.scale, high = plan.high * scaling.scale;
#pragma unroll 1
  for (int first = lane * width; first < piece.length; first += plan.pieces.group * width) {
#pragma unroll 1
    for (int64_t i = piece.begin + first; i < piece.begin + first + width; i++) {
      const float x = to_float(static_cast<const Scalar *>(quantize.x)[i]);
      const uint8_t code = code_of<ENCODING>(quantize, *quantize.map, scaling, x, false, 0);
      float value = decode<ENCODING>(quantize, quantize.map->value, code) * scaling.scale;
      if (plan.round) {
        Scalar rounded;
        from_float(value, true, rounded);
        value = to_float(rounded);
      }
      take(all, x, value, low, high, i);
    }
  }
}

/* Whether a piece needs the general code: beyond what vector_scaling says, where it is not finite, and where its scale
 * is below `least`. */
__device__ inline bool is_slow(const VectorScaling &scaling, bool known, uint32_t magnitude, float factor,
                               float least) {
  const float scale = scaling.general.scale;
  if (scaling.slow || magnitude >= infinity_bits) return true;
  if (scale == 0) return known;
  return !(scale <= FLT_MAX && scale * factor >= least);
}

/* From this scale on, that of a normalized piece, what does not become 0 is not subnormal: approximate_reciprocal takes
 * it. A map's look-up has a factor that makes what becomes 0 subnormal, and nothing much larger. */
template <Encoding ENCODING> __device__ inline float least_scale(const Encoder<ENCODING> &) { return 0x1p-64f; }
__device__ inline float least_scale(const Encoder<ENCODING_MAP> &encoder) { return encoder.factor * 0x1p24f; }

template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__global__ void __launch_bounds__(COMPARE_MOST_THREADS, 3)
    compare_pieces_kernel(const __grid_constant__ ComparePiecesPlan plan) {
  constexpr int width = vector_width<Scalar>;
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ uint32_t warp_magnitude[2][WARP];
  const PiecesPlan &pieces = plan.pieces;
  const QuantizePlan &quantize = pieces.quantize;
  Encoder<ENCODING> encoder(stage, quantize.map);
  const float least = least_scale(encoder);
  if (DIVIDE && sizeof(Scalar) == 4) encoder.scale_by(0x1p-24f);
  uint32_t magnitude = 0;
  float scale = 0;
  if (pieces.maxima) {
    magnitude = whole_maximum(pieces.maxima, pieces.maxima_count);
    scale = scale_of(quantize, magnitude);
  }
  const int group = pieces.group, groups = blockDim.x / group, lane = threadIdx.x & (group - 1);
  const int64_t turns = divide_up(pieces.count, groups);
  Tally all = empty_tally();
  int parity = 0;
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t turned = blockIdx.x; turned < turns; turned += gridDim.x, parity ^= 1) {
    const Piece piece = piece_at(pieces, turns, turned, groups);
    uint4 raw[COMPARE_VECTORS];
    load_piece<Scalar>(pieces, piece, lane, raw);
    if (!pieces.maxima) {
      magnitude = 0;
#pragma unroll
      for (int v = 0; v < COMPARE_VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
      magnitude = group_maximum(magnitude_bits(magnitude, Scalar()), group, warp_magnitude[parity]);
      scale = scale_of(quantize, magnitude);
    }
    if (quantize.known_scale && piece.length > 0) {
      const int64_t block = pieces.pieces_a_block == 1 ? piece.number : divide(piece.number, pieces.pieces_a_block);
      scale = quantize.known_scale[block];
    }
    const VectorScaling scaling =
        vector_scaling<Scalar, ENCODING, DIVIDE>(quantize, scaling_of<ENCODING>(quantize, scale), magnitude);
    const Normalizer normalizer = normalizer_of(magnitude);
    const bool slow =
        piece.length > 0 && is_slow(scaling, quantize.known_scale != nullptr, magnitude, normalizer.factor, least);
    if (__any_sync(all_lanes, slow)) {
      take_slowly<Scalar, ENCODING>(all, plan, scaling.general, piece, lane);
      continue;
    }
    const float largest = float_from_bits(magnitude);
    const bool saturating = __any_sync(all_lanes, largest > plan.high * scale || -largest < plan.low * scale);
    Sums sums = {};
    int count = 0;
#pragma unroll
    for (int v = 0; v < COMPARE_VECTORS; v++) {
      if ((lane + v * group) * width >= piece.length) break;
      take_vector<Scalar, ENCODING, DIVIDE>(sums, plan, encoder, scaling, normalizer.factor, saturating, raw[v]);
      count += width;
    }
    settle<Scalar>(all, sums, normalizer, count);
    if (count > 0) all.absmax = fmaxf(all.absmax, largest);
  }
  leave_tally(all, plan.partials);
}

/* --- as it is --- */

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) compare_magnitudes_kernel(const __grid_constant__ ComparePlan plan) {
  constexpr int width = vector_width<Scalar>;
  const uint4 *x = static_cast<const uint4 *>(plan.x);
  const int64_t vectors = plan.count / width, step = (int64_t)gridDim.x * BLOCK * COMPARE_VECTORS;
  Tally all = empty_tally();
  for (int64_t first = (int64_t)blockIdx.x * BLOCK * COMPARE_VECTORS + threadIdx.x; first < vectors; first += step) {
    uint4 raw[COMPARE_VECTORS];
    uint32_t magnitude = 0;
    int count = 0;
#pragma unroll
    for (int v = 0; v < COMPARE_VECTORS; v++) {
      raw[v] = make_uint4(0, 0, 0, 0);
      if (first + v * BLOCK < vectors) {
        raw[v] = x[first + v * BLOCK];
        count += width;
      }
    }
#pragma unroll
    for (int v = 0; v < COMPARE_VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
    magnitude = magnitude_bits(magnitude, Scalar());
    if (magnitude >= infinity_bits) {
#pragma unroll 1
      for (int64_t vector = first; vector < vectors && vector < first + COMPARE_VECTORS * BLOCK; vector += BLOCK) {
#pragma unroll 1
        for (int64_t i = vector * width; i < (vector + 1) * width; i++) {
          const float own = to_float(static_cast<const Scalar *>(plan.x)[i]);
          take(all, own, own, -INFINITY, INFINITY, i);
        }
      }
      continue;
    }
    const Normalizer normalizer = normalizer_of(magnitude);
    Sums sums = {};
#pragma unroll
    for (int v = 0; v < COMPARE_VECTORS; v++) {
      float own[width];
      unpack<Scalar>(raw[v], own);
      sums.nonzeros += count_nonzeros<Scalar>(raw[v]);
#pragma unroll
      for (int k = 0; k < width; k++) {
        const float normalized = own[k] * normalizer.factor;
        sums.sum += normalized;
        sums.square_sum = fmaf(normalized, normalized, sums.square_sum);
      }
    }
    sums.vanished = count - total_of<Scalar>(sums.nonzeros);
    settle<Scalar>(all, sums, normalizer, count);
    all.absmax = fmaxf(all.absmax, float_from_bits(magnitude));
  }
  leave_tally(all, plan.partials);
}

/* --- launching --- */

template <typename Scalar, Encoding ENCODING, bool DIVIDE>
cudaError_t run(Launch launch, const ComparePiecesPlan &plan, Comparison *row) {
  const auto kernel = compare_pieces_kernel<Scalar, ENCODING, DIVIDE>;
  const int threads = plan.pieces.threads;
  const int64_t blocks = divide_up(plan.pieces.count * plan.pieces.group, threads);
  const int grid = resident_grid((const void *)kernel, launch, threads, blocks);
  kernel<<<grid, threads, 0, launch.stream>>>(plan);
  return launch_finish_compare(launch, row, plan.partials, grid);
}

template <typename Scalar> cudaError_t run_pieces(Launch launch, const ComparePiecesPlan &plan, Comparison *row) {
  if (plan.pieces.quantize.divide) return run<Scalar, ENCODING_MAP, true>(launch, plan, row);
  return with_encoding(plan.pieces.quantize,
                       [&](auto encoding) { return run<Scalar, decltype(encoding)::value, false>(launch, plan, row); });
}

template <typename Scalar> cudaError_t run_magnitudes(Launch launch, const ComparePlan &plan, Comparison *row) {
  const int64_t vectors = plan.count / vector_width<Scalar>;
  const int grid = resident_grid((const void *)compare_magnitudes_kernel<Scalar>, launch, BLOCK,
                                 divide_up(vectors, BLOCK * COMPARE_VECTORS));
  compare_magnitudes_kernel<Scalar><<<grid, BLOCK, 0, launch.stream>>>(plan);
  return launch_finish_compare(launch, row, plan.partials, grid);
}

} // namespace

extern "C" cudaError_t launch_compare_pieces(Launch launch, const ComparePiecesPlan *plan, Comparison *row) {
  return with_scalar(plan->pieces.quantize.dtype,
                     [&](auto scalar) { return run_pieces<decltype(scalar)>(launch, *plan, row); });
}

extern "C" cudaError_t launch_compare_magnitudes(Launch launch, const ComparePlan *plan, Comparison *row) {
  return with_scalar(plan->dtype, [&](auto scalar) { return run_magnitudes<decltype(scalar)>(launch, *plan, row); });
}
