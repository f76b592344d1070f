/* Codes of four scaled numbers, or numbers of four codes, at a time: by look-up (core/lookup.h) or by the conversions
 * of chips that have them. The same bits as encode and decode in quantize.cuh for finite numbers. */
#ifndef FP8_ENCODE_CUH
#define FP8_ENCODE_CUH

#include "core/formats/lookup.h"
#include "quantize/quantize.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
#define FLOAT8_CONVERSIONS 1
#else
#define FLOAT8_CONVERSIONS 0
#endif

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
  __device__ uint32_t codes(const uint32_t (&word)[4]) const {
    return __byte_perm(__byte_perm(word[0], word[1], 0x73), __byte_perm(word[2], word[3], 0x73), 0x5410);
  }
  __device__ void decode(const uint32_t (&word)[4], float *result) const {
#pragma unroll
    for (int k = 0; k < 4; k++) result[k] = value[word[k] >> 24];
  }
};

/* A map's grid: words are the numbers that the codes stand for. */
template <> struct Encoder<ENCODING_GRID> {
  FormatGrid grid;

  __device__ explicit Encoder(const FormatGrid &of_map) : grid(of_map) {}
  __device__ void scale_by(float) {}

  __device__ void encode(const float *scaled, uint32_t (&word)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; k++) word[k] = float_to_bits(grid_nearest(&grid, scaled[k]));
  }
  __device__ uint32_t codes(const uint32_t (&word)[4]) const {
    uint32_t result = 0;
#pragma unroll
    for (int k = 0; k < 4; k++) result |= (uint32_t)grid_code(&grid, float_from_bits(word[k])) << 8 * k;
    return result;
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

/* The plan's; the whole thread block together. */
template <Encoding ENCODING>
__device__ inline Encoder<ENCODING> make_encoder(typename StageOf<ENCODING>::Type &stage, const QuantizePlan &plan) {
  if constexpr (ENCODING == ENCODING_GRID) {
    return Encoder<ENCODING>(plan.grid);
  } else {
    return Encoder<ENCODING>(stage, plan.map);
  }
}

#endif
