/* Codes of four scaled numbers, or numbers of four codes, at a time: by look-up (core/lookup.h) or by the conversions
 * of chips that have them. The same bits as encode and decode in quantize.cuh for finite numbers. */
#ifndef FP8_ENCODE_CUH
#define FP8_ENCODE_CUH

#include "core/formats/lookup.h"
#include "quantize/quantize.cuh"
#include "vectors.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define FLOAT8_CONVERSIONS 1
#else
#define FLOAT8_CONVERSIONS 0
#endif

/* Four words' lowest bytes, or their highest. */
__device__ inline uint32_t lowest_bytes(const uint32_t *word) {
  return __byte_perm(__byte_perm(word[0], word[1], 0x40), __byte_perm(word[2], word[3], 0x40), 0x5410);
}
__device__ inline uint32_t highest_bytes(const uint32_t *word) {
  return __byte_perm(__byte_perm(word[0], word[1], 0x73), __byte_perm(word[2], word[3], 0x73), 0x5410);
}

/* All bits of a negative number. */
__device__ inline uint32_t sign_mask(float value) { return (uint32_t)((int32_t)float_to_bits(value) >> 31); }

/* Bytes of ones for those of four elements of a vector, from number `first` on, that are negative. A selector's digit from
 * 8 on repeats the sign of a byte. */
template <typename Scalar> __device__ inline uint32_t signs_of_four(const uint4 &raw, int first) {
  uint32_t low, high, all;
  if (sizeof(Scalar) == 2) {
    asm("prmt.b32 %0, %1, %2, 0xFDB9;" : "=r"(all) : "r"(first ? raw.z : raw.x), "r"(first ? raw.w : raw.y));
    return all;
  }
  asm("prmt.b32 %0, %1, %2, 0xFB;" : "=r"(low) : "r"(raw.x), "r"(raw.y));
  asm("prmt.b32 %0, %1, %2, 0xFB;" : "=r"(high) : "r"(raw.z), "r"(raw.w));
  return __byte_perm(low, high, 0x5410);
}

/* Codes of a map's grid, 128 and so many steps above or below, from four numbers of steps and their signs. */
__device__ inline uint32_t grid_codes(uint32_t steps, uint32_t negative) {
  return 0x80808080u + (steps & ~negative) - (steps & negative);
}

/* A map's look-up and entries, in shared memory. */
struct LookupStage {
  alignas(16) uint32_t entry[2 * LOOKUP_HALF];
  alignas(16) float value[MAP_SIZE];
};
struct NoStage {};

template <Encoding ENCODING> struct StageOf { using Type = NoStage; };
template <> struct StageOf<ENCODING_MAP> { using Type = LookupStage; };

template <Encoding ENCODING> struct Encoder;

template <> struct Encoder<ENCODING_MAP> {
  const uint32_t *origin;
  const float *value;
  int shift;
  float factor;

  /* The whole thread block together. */
  __device__ Encoder(LookupStage &stage, const MapTable *map) {
    const MapLookup &lookup = map->lookup;
    const uint4 *from = reinterpret_cast<const uint4 *>(lookup.entry);
    uint4 *to = reinterpret_cast<uint4 *>(stage.entry);
    for (int i = threadIdx.x; i < (2 * lookup.half + 3) / 4; i += blockDim.x) to[i] = from[i];
    for (int i = threadIdx.x; i < MAP_SIZE; i += blockDim.x) stage.value[i] = map->value[i];
    __syncthreads();
    origin = stage.entry + lookup.half;
    value = stage.value;
    shift = lookup.shift;
    factor = lookup.factor;
  }

  /* Numbers come multiplied by 1 / `inverse`, a power of two. */
  __device__ void scale_by(float inverse) { factor *= inverse; }

  /* The numbers become words whose upper bytes are the codes. */
  __device__ void encode(const float *scaled, uint32_t (&word)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; k++) word[k] = lookup_word(origin, shift, factor, scaled[k]);
  }
  __device__ uint32_t codes(const uint32_t (&word)[4]) const { return highest_bytes(word); }
  __device__ void decode(const uint32_t (&word)[4], float *result) const {
#pragma unroll
    for (int k = 0; k < 4; k++) result[k] = value[word[k] >> 24];
  }
};

/* A map's grid: words are the numbers that the codes stand for. */
template <> struct Encoder<ENCODING_GRID> {
  FormatGrid grid;
  float to_steps; /* in float32's subnormal numbers */
  int dropped;

  __device__ explicit Encoder(const FormatGrid &of_map) : grid(of_map), dropped(grid_dropped(&of_map)) {
    to_steps = float_from_bits((uint32_t)(127 - grid.exponent) << 23) * 0x1p-126f;
  }
  __device__ void scale_by(float) {}

  __device__ void encode(const float *scaled, uint32_t (&word)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; k++) word[k] = float_to_bits(grid_nearest(&grid, scaled[k]));
  }
  /* As grid_code. */
  __device__ uint32_t codes(const uint32_t (&word)[4]) const {
    uint32_t steps[4];
#pragma unroll
    for (int k = 0; k < 4; k++) steps[k] = float_to_bits(fabsf(float_from_bits(word[k])) * to_steps) >> dropped;
    return grid_codes(lowest_bytes(steps), signs_of_four<float>(make_uint4(word[0], word[1], word[2], word[3]), 0));
  }
  __device__ void decode(const uint32_t (&word)[4], float *result) const {
#pragma unroll
    for (int k = 0; k < 4; k++) result[k] = float_from_bits(word[k]);
  }
};

/* E4M3 or E5M2: word[0] is the four codes, the others are unused. */
template <Encoding ENCODING> struct Encoder {
  __device__ Encoder(NoStage &, const MapTable *) {}
  __device__ void scale_by(float) {}

  __device__ static uint32_t pair(float low, float high) {
#if FLOAT8_CONVERSIONS
    uint16_t codes;
    if (ENCODING == ENCODING_E4M3) {
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    } else {
      asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    }
    return codes;
#else
    if (ENCODING == ENCODING_E4M3) return e4m3_from_float(low, true) | (uint32_t)e4m3_from_float(high, true) << 8;
    return e5m2_from_float(low, true) | (uint32_t)e5m2_from_float(high, true) << 8;
#endif
  }
  __device__ static void numbers(uint32_t codes, float &low, float &high) {
#if FLOAT8_CONVERSIONS
    uint32_t halves;
    if (ENCODING == ENCODING_E4M3) {
      asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)codes));
    } else {
      asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)codes));
    }
    asm("{ .reg .f16 a, b; mov.b32 {a, b}, %2; cvt.f32.f16 %0, a; cvt.f32.f16 %1, b; }"
        : "=f"(low), "=f"(high)
        : "r"(halves));
#else
    low = ENCODING == ENCODING_E4M3 ? e4m3_to_float((uint8_t)codes) : e5m2_to_float((uint8_t)codes);
    high = ENCODING == ENCODING_E4M3 ? e4m3_to_float((uint8_t)(codes >> 8)) : e5m2_to_float((uint8_t)(codes >> 8));
#endif
  }

  __device__ void encode(const float *scaled, uint32_t (&word)[4]) const {
    word[0] = pair(scaled[0], scaled[1]) | pair(scaled[2], scaled[3]) << 16;
  }
  __device__ uint32_t codes(const uint32_t (&word)[4]) const { return word[0]; }
  __device__ void decode(const uint32_t (&word)[4], float *result) const {
    numbers(word[0], result[0], result[1]);
    numbers(word[0] >> 16, result[2], result[3]);
  }
};

/* --- stochastic rounding by a grid --- */

__device__ inline RandomBlock random_by_keys(const uint32_t (&key)[RANDOM_ROUNDS][2], uint64_t counter) {
  RandomBlock block = random_counter(counter);
#pragma unroll
  for (int i = 0; i < RANDOM_ROUNDS; i++) random_round(&block, key[i][0], key[i][1]);
  return block;
}

/* The keys of Philox's rounds, which the compiler would add up again for every block. */
struct RandomKeys {
  uint32_t key[RANDOM_ROUNDS][2];

  __device__ explicit RandomKeys(RandomSource source) {
    key[0][0] = (uint32_t)source.seed;
    key[0][1] = (uint32_t)(source.seed >> 32);
#pragma unroll
    for (int i = 1; i < RANDOM_ROUNDS; i++) {
      key[i][0] = key[i - 1][0] + RANDOM_KEY_0;
      key[i][1] = key[i - 1][1] + RANDOM_KEY_1;
      asm volatile("" : "+r"(key[i][0]), "+r"(key[i][1]));
    }
  }

  __device__ RandomBlock block_at(uint64_t counter) const { return random_by_keys(key, counter); }
};

/* What numbers are multiplied with before they are rounded, and after. */
struct Factors {
  float inverse, scale;
  __device__ float scaled(float x) const { return x * inverse; }
};

/* The scales that Stochastic takes: a power of two times one is exact, and it has no sign. */
__device__ inline bool is_usual(float scale) { return scale > 0x1p-90f && scale < 0x1p100f; }

/* powers_stochastic, as so many steps. */
__device__ __noinline__ inline uint32_t powers_steps(PowersOfTwo powers, float scaled, uint32_t random) {
  const uint32_t bits = float_to_bits(powers_stochastic(&powers, scaled, random)) & 0x7FFFFFFFu;
  return bits == 0 ? 0 : (bits >> 23) - (126 + powers.exponent);
}

/* As grid_stochastic, among float32's subnormal numbers, which have the format's steps by themselves. The plan has the grid and
 * the limit of a hardware format, too. DROPPED: grid_dropped, or 0 for any but 23, which is for powers of two.
 *
 * Those are rounded as map_passes does it, to the same side by the same bits. Upwards, that is by the inverted bits: what a
 * number has passed of its step is added, and carries where it is more than the bits. Downwards, below 0, a magnitude grows
 * where the bits reach the rest of the step. Both are exact in the 24 bits that count, but for numbers below half of the
 * smallest power, which lose bits here: sums that are next to the carry are in doubt, and decided again. */
template <int DROPPED> struct Stochastic {
  static constexpr bool POWERS = DROPPED == 23;
  PowersOfTwo powers;
  float limit, to_subnormal, from_subnormal;
  float zero; /* whose sign a sum with -0 has, and 0 of a map has none */
  int dropped;
  bool map;
  uint32_t of_map; /* all bits if it is one */
  uint32_t to_top; /* the factor that brings steps to the highest byte */

  __device__ explicit Stochastic(const QuantizePlan &plan)
      : powers(plan.powers), limit(plan.rule.limit), map(plan.map), of_map(plan.map ? ~0u : 0) {
    const int exponent = plan.grid.exponent;
    to_subnormal = float_from_bits(exponent > 0 ? 1u << (23 - exponent) : (uint32_t)(1 - exponent) << 23);
    from_subnormal = float_from_bits((uint32_t)(127 + exponent) << 23);
    zero = map ? 0.0f : -0.0f;
    dropped = DROPPED > 0 ? DROPPED : grid_dropped(&plan.grid);
    to_top = 1u << (24 - dropped);
    /* Or the compiler would choose and shift by these. */
    asm volatile("" : "+r"(of_map), "+r"(to_top));
  }

  /* The bits of a scaled number's magnitude among float32's subnormal numbers. */
  __device__ uint32_t magnitude(float scaled) const {
    return float_to_bits(fminf(fabsf(scaled), limit) * to_subnormal);
  }
  /* A vector rounded by random bits, to what `value` takes. */
  template <int WIDTH, typename Found>
  __device__ void round(const float (&element)[WIDTH], const uint32_t (&random)[WIDTH], const Found &factors_at,
                        uint32_t (&rounded)[WIDTH]) const {
    constexpr uint32_t doubt = 0x007FFFFFu; /* and the next one */
    uint32_t least = ~0u;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const float scaled = factors_at(k).scaled(element[k]);
      const uint32_t bits = POWERS ? random[k] ^ ~sign_mask(scaled) : random[k];
      rounded[k] = magnitude(scaled) + (bits >> (32 - dropped));
      if (POWERS) least = __viaddmin_u32(rounded[k], -doubt, least);
    }
    if constexpr (POWERS) {
      if (least > 1) return;
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        if (rounded[k] - doubt <= 1) {
          rounded[k] = powers_steps(powers, factors_at(k).scaled(element[k]), random[k]) << 23;
        }
      }
    }
  }
  /* The number times its scale, with the sign of another. */
  __device__ float value(uint32_t rounded, float scale, float signed_one) const {
    const uint32_t factor = float_to_bits(scale * from_subnormal) | (float_to_bits(signed_one) & 0x80000000u);
    return fmaf(float_from_bits(rounded & 0xFFFFFFFFu << dropped) * 0x1p126f, float_from_bits(factor), zero);
  }
  /* The number of steps, in the highest byte, by the upper 24 random bits: what is below them no sum here can carry. */
  __device__ uint32_t steps(uint32_t magnitude, uint32_t random) const { return magnitude * to_top + random; }

  /* Codes of four numbers of steps and their signs: grid_codes, or steps and a bit for the sign; powers of two count from
   * both ends of a map. */
  __device__ uint32_t codes_of(uint32_t four, uint32_t negative) const {
    if (POWERS) return ((255 - powers.count) * 0x01010101u + four) ^ negative;
    const uint32_t below = negative & of_map;
    return ((negative | of_map) & 0x80808080u) + (four & ~below) - (four & below);
  }

  /* Elements `at` and on, which factors_at(k) is_usual for, or scales to 0. */
  template <typename Scalar, typename Found>
  __device__ void to_codes(uint8_t *codes, const RandomBlock &block, const uint4 &raw, const Found &factors_at,
                           int64_t at) const {
    constexpr int width = vector_width<Scalar>;
    float element[width];
    uint32_t word[width];
    unpack<Scalar>(raw, element);
    share_upper(block, at, word);
    if constexpr (POWERS) {
      store_power_codes(codes, block, element, word, factors_at, at);
    } else {
#pragma unroll
      for (int k = 0; k < width; k++) word[k] = steps(magnitude(factors_at(k).scaled(element[k])), word[k]);
      Packed<uint32_t, width / 4> four;
#pragma unroll
      for (int k = 0; k < width; k += 4) {
        four.element[k / 4] = codes_of(highest_bytes(word + k), signs_of_four<Scalar>(raw, k));
      }
      *reinterpret_cast<Packed<uint32_t, width / 4> *>(codes + at) = four;
    }
  }
  /* Scaled numbers that are -0 count as 0. */
  template <int WIDTH, typename Found>
  __device__ void store_power_codes(uint8_t *codes, const RandomBlock &block, const float (&element)[WIDTH],
                                    uint32_t (&word)[WIDTH], const Found &factors_at, int64_t at) const {
    constexpr uint32_t doubt = 0x00FFFFFFu;
    float scaled[WIDTH];
    uint32_t least = ~0u;
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      scaled[k] = factors_at(k).scaled(element[k]) + 0.0f;
      word[k] = steps(magnitude(scaled[k]), word[k] ^ (~sign_mask(scaled[k]) & doubt));
      least = __viaddmin_u32(word[k], -doubt, least);
    }
    if (least <= 1) {
      uint32_t random[WIDTH];
      share_block(block, at, random);
#pragma unroll
      for (int k = 0; k < WIDTH; k++) {
        if (word[k] - doubt <= 1) word[k] = powers_steps(powers, scaled[k], random[k]) << 24;
      }
    }
    Packed<uint32_t, WIDTH / 4> four;
#pragma unroll
    for (int k = 0; k < WIDTH; k += 4) {
      const uint4 signs = make_uint4(float_to_bits(scaled[k]), float_to_bits(scaled[k + 1]),
                                     float_to_bits(scaled[k + 2]), float_to_bits(scaled[k + 3]));
      four.element[k / 4] = codes_of(highest_bytes(word + k), signs_of_four<float>(signs, 0));
    }
    *reinterpret_cast<Packed<uint32_t, WIDTH / 4> *>(codes + at) = four;
  }

  template <typename Scalar, typename Found>
  __device__ void to_values(Scalar *values, const RandomBlock &block, const uint4 &raw, const Found &factors_at,
                            int64_t at) const {
    constexpr int width = vector_width<Scalar>;
    float element[width];
    uint32_t random[width], rounded[width];
    unpack<Scalar>(raw, element);
    share_block(block, at, random);
    round(element, random, factors_at, rounded);
#pragma unroll
    for (int k = 0; k < width; k++) element[k] = value(rounded[k], factors_at(k).scale, element[k]);
    store_vector(reinterpret_cast<uint4 *>(values + at), pack<Scalar>(element));
  }
};

template <> struct Encoder<ENCODING_STOCHASTIC> : Stochastic<0> {
  using Stochastic<0>::Stochastic;
  __device__ void scale_by(float) {}
};
/* Nothing yet: what it has would be held where elements need the registers. */
template <> struct Encoder<ENCODING_POWERS> {
  __device__ explicit Encoder(const QuantizePlan &) {}
  __device__ void scale_by(float) {}
};

/* The plan's; the whole thread block together. */
template <Encoding ENCODING>
__device__ inline Encoder<ENCODING> make_encoder(typename StageOf<ENCODING>::Type &stage, const QuantizePlan &plan) {
  if constexpr (ENCODING == ENCODING_GRID) {
    return Encoder<ENCODING>(plan.grid);
  } else if constexpr (is_at_random<ENCODING>) {
    return Encoder<ENCODING>(plan);
  } else {
    return Encoder<ENCODING>(stage, plan.map);
  }
}

#endif
