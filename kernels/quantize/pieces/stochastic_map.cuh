/* Stochastic rounding by any map, of pieces (quantize_pieces.cuh). Thread blocks stay, for the sake of the tables that each
 * stages. A thread's vectors wait in shared memory, where those of its next piece take their places one by one. */
#ifndef FP8_STOCHASTIC_MAP_CUH
#define FP8_STOCHASTIC_MAP_CUH

#include "quantize/pieces/scales_and_sums.cuh"

/* --- the tables --- */

/* Each entry of a map for every lane of half a warp, in banks of its own. */
enum { ENTRY_COPIES = WARP / 2 };

/* In shared memory: entries, then the look-up of those below numbers. */
inline int neighbour_bytes(int half) {
  return MAP_SIZE * ENTRY_COPIES * (int)sizeof(float2) + (2 * half + 3) / 4 * (int)sizeof(uint4);
}

template <> struct Encoder<ENCODING_STOCHASTIC_MAP> {
  /* Shared addresses, of which the compiler would not compute in the fewest steps: of bucket 0; and of the first entry and the
   * next one, infinite after the last, or where only codes are wanted, 2^-24 of the step. */
  uint32_t origin, pair;
  uint32_t entry_bytes, row_bytes;
  int shift;
  float factor, limit;

  /* The whole thread block together. */
  __device__ Encoder(const QuantizePlan &plan, void *shared) {
    const MapTable *map = plan.map;
    const MapLookup &lookup = *reinterpret_cast<const MapLookup *>(map + 1);
    float2 *pairs = static_cast<float2 *>(shared);
    const uint4 *from = reinterpret_cast<const uint4 *>(lookup.entry);
    uint4 *entries = reinterpret_cast<uint4 *>(pairs + MAP_SIZE * ENTRY_COPIES);
#pragma unroll 4
    for (int i = threadIdx.x; i < (2 * lookup.half + 3) / 4; i += blockDim.x) entries[i] = from[i];
#pragma unroll 8
    for (int i = threadIdx.x; i < MAP_SIZE * ENTRY_COPIES; i += blockDim.x) {
      const int code = i / ENTRY_COPIES;
      const bool last = isinf(map->midpoint[code]) && map->midpoint[code] > 0;
      const float low = map->value[code], high = last ? INFINITY : map->value[code + 1];
      pairs[i] = make_float2(low, plan.values ? high : (high - low) * 0x1p-24f);
    }
    __syncthreads();
    origin = (uint32_t)__cvta_generic_to_shared(reinterpret_cast<uint32_t *>(entries) + lookup.half);
    pair = (uint32_t)__cvta_generic_to_shared(pairs + threadIdx.x % ENTRY_COPIES);
    shift = lookup.shift;
    entry_bytes = sizeof(uint32_t);
    row_bytes = ENTRY_COPIES * sizeof(float2);
    asm volatile("" : "+r"(entry_bytes), "+r"(row_bytes));
    factor = lookup.factor;
    limit = plan.rule.limit;
  }

  /* As lookup_word. */
  __device__ uint32_t word_of(float scaled) const {
    const int32_t bits = (int32_t)float_to_bits(fmaf(scaled, factor, 0.0f)), ordered = bits ^ (bits >> 31 & 0x7FFFFFFF);
    uint32_t entry;
    asm("ld.shared.u32 %0, [%1];" : "=r"(entry) : "r"(origin + entry_bytes * (uint32_t)(ordered >> shift)));
    return entry + (uint32_t)ordered;
  }
  __device__ float2 pair_of(uint32_t word) const {
    float2 around;
    uint32_t code;
    asm("shr.u32 %0, %1, 24;" : "=r"(code) : "r"(word));
    asm("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(around.x), "=f"(around.y) : "r"(pair + code * row_bytes));
    return around;
  }

  /* As map_passes, by the first 24 of the random bits. */
  template <int WIDTH>
  __device__ void to_codes(const float (&scaled)[WIDTH], const uint32_t (&random)[WIDTH],
                           uint32_t (&word)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      word[k] = word_of(scaled[k]);
      const float2 around = pair_of(word[k]);
      if ((float)(int32_t)random[k] * around.y < scaled[k] - around.x) word[k] += 1u << 24;
    }
  }
  /* Scaled numbers become values. */
  template <int WIDTH>
  __device__ void to_values(float (&scaled)[WIDTH], const uint32_t (&random)[WIDTH], uint32_t (&word)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      word[k] = word_of(scaled[k]);
      const float2 around = pair_of(word[k]);
      const bool passes = (float)(int32_t)random[k] * 0x1p-24f * (around.y - around.x) < scaled[k] - around.x;
      scaled[k] = passes ? around.y : around.x;
      if (passes) word[k] += 1u << 24;
    }
  }
  template <int WIDTH> __device__ static void store_words(uint8_t *codes, const uint32_t (&word)[WIDTH]) {
    Packed<uint32_t, WIDTH / 4> four;
#pragma unroll
    for (int k = 0; k < WIDTH; k += 4) four.element[k / 4] = highest_bytes(word + k);
    *reinterpret_cast<Packed<uint32_t, WIDTH / 4> *>(codes) = four;
  }

  /* A scaled vector to codes, to values or to both. */
  template <typename Scalar, bool CODES, bool VALUES>
  __device__ void quantize(const QuantizePlan &plan, const RandomBlock &block, float (&number)[vector_width<Scalar>],
                           float scale, int64_t at) const {
    constexpr int width = vector_width<Scalar>;
    uint32_t random[width], word[width];
    share_upper(block, at, random);
    if (!isinf(limit)) {
#pragma unroll
      for (int k = 0; k < width; k++) number[k] = fminf(fmaxf(number[k], -limit), limit);
    }
    if constexpr (VALUES) {
      to_values(number, random, word);
#pragma unroll
      for (int k = 0; k < width; k++) number[k] *= scale;
      store_vector(reinterpret_cast<uint4 *>(static_cast<Scalar *>(plan.values) + at), pack<Scalar>(number));
    } else {
      to_codes(number, random, word);
    }
    if (CODES) store_words(plan.codes + at, word);
  }
};

namespace {

/* Zeros where there is none. */
__device__ inline void fetch_vector(const uint4 *from, bool exists, uint4 *to) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(exists ? 16 : 0)
               : "memory");
}

/* A piece that begins at `begin`, and has `left` elements from the thread's first one on; the next one has `coming` of them
 * from `from` on. FULL: whether there is something in each vector. */
template <typename Scalar, bool DIVIDE, int VECTORS, bool CODES, bool VALUES, bool FULL>
__device__ inline void write_map_vectors(const PiecesPlan &pieces, const Encoder<ENCODING_STOCHASTIC_MAP> &encoder,
                                         int64_t at, int left, const uint4 *from, int coming, uint4 *own,
                                         const VectorScaling &scaling) {
  constexpr int width = vector_width<Scalar>;
  const QuantizePlan &plan = pieces.quantize;
  const int group = pieces.group, step = group * width;
  uint64_t counter = plan.random.offset + (uint64_t)at / 8;
#pragma unroll 1
  for (int v = 0; v < VECTORS; v++) {
    if (FULL || left > 0) {
      float scaled[width];
      unpack<Scalar>(*own, scaled);
#pragma unroll
      for (int k = 0; k < width; k++) {
        scaled[k] = DIVIDE ? quotient<Scalar>(scaled[k], scaling.divisor, scaling.inverse, scaling.vanishing)
                           : scaled[k] * scaling.inverse;
        if (DIVIDE && sizeof(Scalar) == 4) scaled[k] *= 0x1p-24f;
      }
      encoder.template quantize<Scalar, CODES, VALUES>(plan, random_by_keys(pieces.key, counter), scaled,
                                                       scaling.general.scale, at);
    }
    fetch_vector(from, coming > 0, own);
    left -= step;
    coming -= step;
    at += step;
    from += group;
    own += blockDim.x;
    counter = width == 8 ? counter + group : plan.random.offset + (uint64_t)at / 8;
  }
}

template <typename Scalar, bool DIVIDE, int VECTORS, bool CODES, bool VALUES>
__device__ inline void write_map_piece(const PiecesPlan &pieces, const Encoder<ENCODING_STOCHASTIC_MAP> &encoder,
                                       const Piece &piece, const Piece &next, int lane, uint4 *own,
                                       const VectorScaling &scaling) {
  constexpr int width = vector_width<Scalar>;
  const uint4 *from =
      reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(pieces.quantize.x) + next.begin) + lane;
  int64_t at = piece.begin + lane * width;
  int left = piece.length - lane * width, coming = next.length - lane * width;
  asm volatile("" : "+r"(left), "+r"(coming), "+l"(from), "+l"(at)); /* or they would be computed again and again */
  if (__all_sync(all_lanes, left > (VECTORS - 1) * pieces.group * width)) {
    write_map_vectors<Scalar, DIVIDE, VECTORS, CODES, VALUES, true>(pieces, encoder, at, left, from, coming, own,
                                                                    scaling);
  } else {
    write_map_vectors<Scalar, DIVIDE, VECTORS, CODES, VALUES, false>(pieces, encoder, at, left, from, coming, own,
                                                                     scaling);
  }
}

/* Arguments in registers: others would be written to memory for every piece. */
template <typename Scalar>
__device__ __noinline__ void quantize_map_slowly(const PiecesPlan &pieces, float scale, float inverse, bool divide,
                                                 bool empty, int64_t begin, int length, int lane) {
  const QuantizePlan &plan = pieces.quantize;
  BlockScaling scaling = block_scaling(scale, inverse, divide);
  scaling.limit = plan.rule.limit;
  scaling.empty = empty;
  quantize_slowly<Scalar, ENCODING_STOCHASTIC_MAP>(plan, scaling, begin, length, lane, pieces.group);
}

/* Whether scales are the largest magnitudes themselves, and each piece is a block that has its own. */
inline bool has_plain_scales(const PiecesPlan &pieces) {
  const ScaleRule &rule = pieces.quantize.rule;
  return rule.rounding == SCALE_EXACT && rule.largest == 1 && rule.headroom == 1 && rule.constant == 0 &&
         !pieces.quantize.known_scale && pieces.pieces_a_block == 1;
}

/* scale_measured_piece of these. */
__device__ inline VectorScaling scale_plain_piece(const QuantizePlan &plan, const Piece &piece, int lane,
                                                  uint32_t magnitude) {
  const float scale = magnitude >= infinity_bits ? float_from_bits(nan_bits) : float_from_bits(magnitude);
  VectorScaling scaling;
  scaling.general = block_scaling(scale, 1.0f / scale, false);
  scaling.inverse = scaling.general.empty ? 0.0f : scaling.general.inverse;
  scaling.slow = !scaling.general.empty && scaling.general.divide;
  if (plan.scale && lane == 0 && piece.length > 0) plan.scale[piece.number] = scale;
  return scaling;
}

/* As group_maximum; groups of several warps wait each for themselves. */
__device__ inline uint32_t maximum_of_group(uint32_t magnitude, int group, int group_bits, uint32_t *shared) {
  if (group <= WARP) return group_maximum(magnitude, group, shared);
  magnitude = largest_of_warp(magnitude);
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = group / WARP;
  if (lane == 0) shared[warp] = magnitude;
  asm volatile("barrier.sync %0, %1;" : : "r"(1 + (threadIdx.x >> group_bits)), "r"(group) : "memory");
  return largest_of_warp(lane < warps ? shared[(warp & -warps) + lane] : 0);
}

/* PLAIN: has_plain_scales. */
template <typename Scalar, bool DIVIDE, int VECTORS, bool SUM, bool PLAIN>
__global__ void __launch_bounds__(512, SUM ? 1 : 2)
    quantize_map_pieces_kernel(const __grid_constant__ PiecesPlan pieces) {
  constexpr int width = vector_width<Scalar>;
  extern __shared__ uint4 vectors[]; /* VECTORS for each thread, and the encoder's tables */
  __shared__ uint32_t warp_magnitude[2][WARP];
  const QuantizePlan &plan = pieces.quantize;
  const int group_bits = 31 - __clz(pieces.group), lane = threadIdx.x & (pieces.group - 1);
  const int groups = blockDim.x >> group_bits;
  const int64_t turns = divide_up(pieces.count, groups);
  uint4 *own = vectors + threadIdx.x;
  const auto fetch = [&](const Piece &piece) {
    const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + piece.begin) + lane;
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
      const int vector = v * pieces.group;
      fetch_vector(from + vector, vector * width < piece.length - lane * width, own + v * blockDim.x);
    }
  };
  /* As piece_at, from one turn to the next. */
  int64_t pieces_on = (pieces.maxima ? -(int64_t)gridDim.x : (int64_t)gridDim.x) * groups;
  int64_t elements_on = pieces_on * pieces.length;
  asm volatile("" : "+l"(pieces_on), "+l"(elements_on));
  const auto next_to = [&](const Piece &piece) {
    Piece next = {piece.number + pieces_on, piece.begin + elements_on, 0};
    const int64_t left = plan.count - next.begin;
    if (next.begin >= 0 && left > 0) next.length = left < pieces.length ? (int)left : (int)pieces.length;
    return next;
  };
  int parity = 0;
  Piece piece = piece_at(pieces, turns, blockIdx.x, groups);
  fetch(piece); /* on its way while the rest is set up */
  const Encoder<ENCODING_STOCHASTIC_MAP> encoder(plan, vectors + VECTORS * blockDim.x);
  float sum[VECTORS][width] = {};
  const uint32_t whole = pieces.maxima ? whole_maximum(pieces.maxima, pieces.maxima_count) : 0;
  /* All threads of a block take part in every turn, as barriers and shuffles need them. */
  for (int64_t turned = blockIdx.x; turned < turns; turned += gridDim.x, parity ^= 1) {
    const Piece next = next_to(piece);
    VectorScaling scaling;
    asm volatile("cp.async.wait_all;" ::: "memory");
    {
      uint4 raw[VECTORS];
#pragma unroll
      for (int v = 0; v < VECTORS; v++) raw[v] = own[v * blockDim.x];
      if (SUM) add_up<Scalar>(raw, sum);
      uint32_t magnitude = whole;
      if (!pieces.maxima) {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) magnitude = raise<Scalar>(magnitude, raw[v]);
        magnitude =
            maximum_of_group(magnitude_bits(magnitude, Scalar()), pieces.group, group_bits, warp_magnitude[parity]);
      }
      if constexpr (PLAIN) {
        scaling = scale_plain_piece(plan, piece, lane, magnitude);
      } else {
        scaling = scale_measured_piece<Scalar, ENCODING_STOCHASTIC_MAP, DIVIDE>(pieces, piece, lane, magnitude);
      }
    }
    /* Numbers that count as 0 are multiplied by 0, if they are finite. */
    scaling.slow = scaling.slow || scaling.general.broken || (scaling.general.empty && plan.known_scale);
    if (__any_sync(all_lanes, scaling.slow)) {
      const BlockScaling &general = scaling.general;
      quantize_map_slowly<Scalar>(pieces, general.scale, general.inverse, general.divide, general.empty, piece.begin,
                                  piece.length, lane);
      fetch(next);
    } else if (!plan.values) {
      write_map_piece<Scalar, DIVIDE, VECTORS, true, false>(pieces, encoder, piece, next, lane, own, scaling);
    } else if (!plan.codes) {
      write_map_piece<Scalar, DIVIDE, VECTORS, false, true>(pieces, encoder, piece, next, lane, own, scaling);
    } else {
      write_map_piece<Scalar, DIVIDE, VECTORS, true, true>(pieces, encoder, piece, next, lane, own, scaling);
    }
    piece = next;
  }
  if constexpr (SUM) write_sums<Scalar>(pieces, lane, sum);
}

template <typename Scalar, bool DIVIDE, int VECTORS, bool SUM>
cudaError_t run_stochastic_map(Launch launch, const PiecesPlan &plan) {
  auto kernel = quantize_map_pieces_kernel<Scalar, DIVIDE, VECTORS, SUM, false>;
  if constexpr (!DIVIDE && !SUM) {
    if (has_plain_scales(plan)) kernel = quantize_map_pieces_kernel<Scalar, DIVIDE, VECTORS, SUM, true>;
  }
  const int tables = neighbour_bytes(plan.half), of_thread = VECTORS * (int)sizeof(uint4);
  int device = 0, most = 0, each = 0, grid = plan.grid, threads = plan.threads;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  if (!SUM && tables + threads * of_thread > most - 1024 && threads / 2 >= plan.group) threads /= 2;
  const int shared = tables + threads * of_thread;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error == cudaSuccess) error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, shared);
  if (error != cudaSuccess) return error;
  if (grid == 0) {
    const int64_t resident = (int64_t)launch.multiprocessors * each;
    const int64_t wanted = divide_up(plan.count, (int64_t)(threads / plan.group));
    grid = (int)(wanted < resident ? wanted : resident);
  }
  kernel<<<grid, threads, shared, launch.stream>>>(plan);
  return cudaGetLastError();
}

template <typename Scalar> cudaError_t launch_stochastic_map(Launch launch, PiecesPlan plan) {
  const RandomSource source = plan.quantize.random;
  for (uint32_t i = 0; i < RANDOM_ROUNDS; i++) {
    plan.key[i][0] = (uint32_t)source.seed + i * RANDOM_KEY_0;
    plan.key[i][1] = (uint32_t)(source.seed >> 32) + i * RANDOM_KEY_1;
  }
  if (plan.quantize.divide) return run_stochastic_map<Scalar, true, 8, false>(launch, plan);
  if (plan.partials) return run_stochastic_map<Scalar, false, 4, true>(launch, plan);
  if (plan.vectors == 2) return run_stochastic_map<Scalar, false, 2, false>(launch, plan);
  if (plan.vectors == 4) return run_stochastic_map<Scalar, false, 4, false>(launch, plan);
  return run_stochastic_map<Scalar, false, 8, false>(launch, plan);
}

} // namespace

#endif
