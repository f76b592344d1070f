/* Quantization: a tensor's elements, in blocks, become codes and one scale a block; or, for fake quantization, the
 * numbers that those codes decode to. The exact rules stand in core/formats/quantizer.h.
 *
 * Work is cut into pieces of at most 4096 elements, none crossing a block's end. A group of 1 to 512 threads takes a
 * piece at a time, eight elements a thread, which stay in registers from the one read to the one write. A block of at
 * most 4096 elements is one piece, and its group finds absmax by shuffles. Longer blocks take two kernels:
 * block_magnitudes leaves each block's largest magnitude in memory, then the pieces are encoded.
 *
 * Magnitudes are compared as bits: of two floats without sign the larger has the larger bits, infinity's exceed all
 * finite ones and NaN's exceed infinity's, so that an integer maximum is exact and finds broken blocks too. */
#include "quantize/quantize.cuh"

namespace {

enum { BLOCK = 512, ELEMENTS = QUANTIZE_PIECE / BLOCK };

/* How the blocks are cut: piece t is piece t % pieces_a_block of block t / pieces_a_block. */
struct BlockPieces {
  int64_t count, pieces_a_block;
  int group; /* threads a piece: a power of two */
};

struct BlockPiece {
  int64_t block, begin;
  int length; /* 0 beyond the last element */
  bool first; /* of its block */
};

__device__ inline BlockPiece piece_at(const QuantizePlan &plan, const BlockPieces &pieces, int64_t i) {
  BlockPiece piece = {0, 0, 0, false};
  if (i >= pieces.count) return piece;
  piece.block = pieces.pieces_a_block == 1 ? i : divide(i, pieces.pieces_a_block);
  const int64_t position = (i - piece.block * pieces.pieces_a_block) * QUANTIZE_PIECE; /* in the block */
  piece.begin = piece.block * plan.blocksize + position;
  int64_t length = min(plan.blocksize - position, (int64_t)QUANTIZE_PIECE);
  length = min(length, plan.count - piece.begin);
  piece.length = (int)max(length, (int64_t)0); /* the last block may be short by whole pieces */
  piece.first = position == 0;
  return piece;
}

/* One element: of dtype Scalar, or with WIDTH 1 of the dtype in the plan. */
template <typename Scalar, int WIDTH> __device__ inline float load_element(const QuantizePlan &plan, int64_t i) {
  if (WIDTH == 1) return load_float(plan.x, plan.dtype, i);
  return to_float(static_cast<const Scalar *>(plan.x)[i]);
}

/* The thread's eight elements as vectors of WIDTH, neighbouring threads holding neighbouring vectors: vector v starts
 * at WIDTH · (lane + v · group). Elements beyond the piece are 0. WIDTH is 1 where vectors would not be aligned. */
template <typename Scalar, int WIDTH>
__device__ inline void load_block_piece(const QuantizePlan &plan, const BlockPiece &piece, int lane, int group,
                                        float (&value)[ELEMENTS]) {
#pragma unroll
  for (int v = 0; v < ELEMENTS / WIDTH; v++) {
    const int position = WIDTH * (lane + v * group);
    float vector[WIDTH] = {};
    if (WIDTH > 1 && position + WIDTH <= piece.length) {
      load_as<Scalar>(plan.x, piece.begin + position, vector);
    } else {
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        if (position + k < piece.length) vector[k] = load_element<Scalar, WIDTH>(plan, piece.begin + position + k);
      }
    }
#pragma unroll
    for (int k = 0; k < WIDTH; k++) value[v * WIDTH + k] = vector[k];
  }
}

__device__ inline uint32_t largest_magnitude(const float (&value)[ELEMENTS]) {
  uint32_t largest = 0;
#pragma unroll
  for (int k = 0; k < ELEMENTS; k++) largest = max(largest, float_to_bits(value[k]) & 0x7FFFFFFFu);
  return largest;
}

/* Writes codes and decoded values of one vector of a piece: all of it, or what lies before `end`. */
template <int WIDTH, Encoding ENCODING>
__device__ inline void store_codes(const QuantizePlan &plan, const MapTable &table, const BlockScaling &scaling,
                                   int64_t i, int64_t end, const Packed<uint8_t, WIDTH> &codes) {
  if (plan.codes && i + WIDTH <= end) {
    *reinterpret_cast<Packed<uint8_t, WIDTH> *>(plan.codes + i) = codes;
  } else if (plan.codes) {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      if (i + k < end) plan.codes[i + k] = codes.element[k];
    }
  }
  if (!plan.values) return;
  float value[WIDTH];
#pragma unroll
  for (int k = 0; k < WIDTH; k++) value[k] = decode<ENCODING>(plan, table.value, codes.element[k]) * scaling.scale;
  if (i + WIDTH <= end) {
    store_values(plan, i, value);
  } else {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const float single[1] = {value[k]};
      if (i + k < end) store_values(plan, i + k, single);
    }
  }
}

template <typename Scalar, int WIDTH, Encoding ENCODING, bool STOCHASTIC>
__global__ void __launch_bounds__(BLOCK)
    quantize_kernel(const __grid_constant__ QuantizePlan plan, const BlockPieces pieces) {
  __shared__ __align__(16) MapTable table;
  __shared__ uint32_t warp_magnitude[2][BLOCK / WARP];
  if (ENCODING != ENCODING_GRID && uses_map<ENCODING>(plan)) stage_table(&table, plan.map, sizeof table);
  const bool stochastic = ENCODING == ENCODING_ANY ? plan.stochastic : STOCHASTIC;
  const int group = pieces.group, groups = BLOCK / group;
  const int lane = threadIdx.x % group;
  int turn = 0;
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t first = (int64_t)blockIdx.x * groups; first < pieces.count;
       first += (int64_t)gridDim.x * groups, turn ^= 1) {
    const BlockPiece piece = piece_at(plan, pieces, first + threadIdx.x / group);
    float value[ELEMENTS];
    load_block_piece<Scalar, WIDTH>(plan, piece, lane, group, value);
    BlockScaling scaling;
    if (plan.known_scale) {
      scaling = scaling_of<ENCODING>(plan, piece.length > 0 ? plan.known_scale[piece.block] : 0);
    } else {
      uint32_t magnitude = 0;
      if (!plan.magnitudes) {
        magnitude = group_maximum(largest_magnitude(value), group, warp_magnitude[turn]);
      } else if (piece.length > 0) {
        magnitude = plan.magnitudes[piece.block];
      }
      scaling = scaling_of_block<ENCODING>(plan, piece.length > 0 ? piece.block : 0, magnitude);
    }
    if (plan.scale && lane == 0 && piece.first) plan.scale[piece.block] = scaling.scale;
#pragma unroll
    for (int v = 0; v < ELEMENTS / WIDTH; v++) {
      const int position = WIDTH * (lane + v * group);
      if (position >= piece.length) break;
      uint32_t bits[WIDTH] = {};
      if (stochastic) rounding_bits(plan.random, piece.begin + position, bits);
      Packed<uint8_t, WIDTH> codes;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        codes.element[k] = code_of<ENCODING>(plan, table, scaling, value[v * WIDTH + k], stochastic, bits[k]);
      }
      store_codes<WIDTH, ENCODING>(plan, table, scaling, piece.begin + position, piece.begin + piece.length, codes);
    }
  }
}

/* Each thread block takes a run of neighbouring pieces and adds its maximum to a block's word where the run leaves that
 * block. */
template <typename Scalar, int WIDTH>
__global__ void __launch_bounds__(BLOCK)
    block_magnitudes_kernel(const __grid_constant__ QuantizePlan plan, const BlockPieces pieces, uint32_t *magnitudes) {
  const int64_t run = divide_up(pieces.count, gridDim.x);
  const int64_t begin = blockIdx.x * run, end = begin + run < pieces.count ? begin + run : pieces.count;
  uint32_t largest = 0;
  for (int64_t i = begin; i < end; i++) {
    const BlockPiece piece = piece_at(plan, pieces, i);
    float value[ELEMENTS];
    load_block_piece<Scalar, WIDTH>(plan, piece, threadIdx.x, BLOCK, value);
    largest = max(largest, largest_magnitude(value));
    if (i + 1 < end && (i + 1) % pieces.pieces_a_block != 0) continue;
    largest = combine_across<BLOCK>(largest, [](uint32_t a, uint32_t b) { return max(a, b); });
    if (threadIdx.x == 0) atomicMax(magnitudes + piece.block, largest);
    largest = 0;
  }
}

BlockPieces block_pieces(const QuantizePlan &plan) {
  BlockPieces pieces = {0, 1, BLOCK};
  const int64_t blocks = divide_up(plan.count, plan.blocksize);
  if (plan.blocksize > QUANTIZE_PIECE) {
    pieces.pieces_a_block = divide_up(plan.blocksize, QUANTIZE_PIECE);
  } else {
    while (pieces.group > 1 && pieces.group / 2 * ELEMENTS >= plan.blocksize) pieces.group /= 2;
  }
  pieces.count = blocks * pieces.pieces_a_block;
  return pieces;
}

/* Vectors of 16 bytes of x (a multiple of 4 elements) may start where pieces do. */
bool is_vectorizable(const QuantizePlan &plan) {
  const int64_t width = with_scalar(plan.dtype, [](auto scalar) { return 16 / (int64_t)sizeof scalar; });
  if ((uintptr_t)plan.x % 16 != 0 || (uintptr_t)plan.values % 16 != 0 || (uintptr_t)plan.codes % width != 0)
    return false;
  return plan.blocksize % width == 0 || plan.blocksize >= plan.count;
}

template <typename Scalar, int WIDTH, Encoding ENCODING, bool STOCHASTIC>
cudaError_t run(Launch launch, const QuantizePlan &plan) {
  const BlockPieces pieces = block_pieces(plan);
  /* Few enough blocks that each stages the map once for many pieces. */
  const int grid = grid_size(launch, pieces.count, BLOCK / pieces.group, 4);
  quantize_kernel<Scalar, WIDTH, ENCODING, STOCHASTIC><<<grid, BLOCK, 0, launch.stream>>>(plan, pieces);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t run_vectors(Launch launch, const QuantizePlan &plan) {
  constexpr int width = 16 / sizeof(Scalar);
  if (plan.grid.bits > 0 && plan.stochastic) return run<Scalar, width, ENCODING_GRID, true>(launch, plan);
  return with_encoding(plan, [&](auto encoding) {
    constexpr Encoding value = decltype(encoding)::value;
    return plan.stochastic ? run<Scalar, width, value, true>(launch, plan)
                           : run<Scalar, width, value, false>(launch, plan);
  });
}

} // namespace

extern "C" cudaError_t launch_quantize(Launch launch, const QuantizePlan *plan) {
  if (plan->count == 0) return cudaSuccess;
  if (!is_vectorizable(*plan)) return run<float, 1, ENCODING_ANY, false>(launch, *plan);
  return with_scalar(plan->dtype, [&](auto scalar) { return run_vectors<decltype(scalar)>(launch, *plan); });
}

extern "C" cudaError_t launch_block_magnitudes(Launch launch, const QuantizePlan *plan, uint32_t *magnitudes) {
  if (plan->count == 0) return cudaSuccess;
  const BlockPieces pieces = block_pieces(*plan);
  const int grid = grid_size(launch, pieces.count, 1, 8);
  if (!is_vectorizable(*plan)) {
    block_magnitudes_kernel<float, 1><<<grid, BLOCK, 0, launch.stream>>>(*plan, pieces, magnitudes);
    return cudaGetLastError();
  }
  with_scalar(plan->dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    block_magnitudes_kernel<Scalar, 16 / sizeof(Scalar)><<<grid, BLOCK, 0, launch.stream>>>(*plan, pieces, magnitudes);
  });
  return cudaGetLastError();
}
