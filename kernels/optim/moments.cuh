/* Moments in 8 bits: codes of a map or a hardware format, and the scales of blocks. */
#ifndef FP8_OPTIM_MOMENTS_CUH
#define FP8_OPTIM_MOMENTS_CUH

#include "core/optim.h"

#include "optim/eight.cuh"
#include "optim/optim.h"
#include "quantize/encode.cuh"

namespace {

/* Four codes by the tables of a map that has no look-up. */
__device__ __noinline__ uint32_t search_codes(const MapTable *map, float4 scaled) {
  return map_nearest(map->midpoint, map->start, scaled.x) |
         (uint32_t)map_nearest(map->midpoint, map->start, scaled.y) << 8 |
         (uint32_t)map_nearest(map->midpoint, map->start, scaled.z) << 16 |
         (uint32_t)map_nearest(map->midpoint, map->start, scaled.w) << 24;
}

/* How the codes of a moment are made and read: by a look-up in shared memory, by searching a map that has none, or by the
 * conversions of the hardware. */
struct MomentCodec {
  const MomentFormat &moment;
  const LookupStage &stage;
  int below, shift; /* of the look-up: how many buckets are below 0; less than 0 where there is none */
  float factor;

  /* The whole thread block together; the stage is ready after the next barrier. */
  __device__ MomentCodec(LookupStage &shared, const MomentFormat &format)
      : moment(format), stage(shared), below(-1), shift(0), factor(0) {
    if (!format.map) return;
    const MapLookup &lookup = format.map->lookup;
    const bool one_sided = lookup.half == 0 && format.smallest > 0; /* second moments are not below 0 */
    const int buckets = one_sided ? lookup.positive : 2 * lookup.half;
    if (buckets > 0) below = lookup.half;
    shift = lookup.shift;
    factor = lookup.factor;
    for (int i = threadIdx.x; i < buckets; i += LIST_BLOCK) shared.entry[i] = lookup.entry[i];
    for (int i = threadIdx.x; i < MAP_SIZE; i += LIST_BLOCK) shared.value[i] = format.map->value[i];
  }

  /* Four codes in a word, the first in the lowest byte. */
  __device__ void decode(uint32_t codes, float *out) const {
    if (moment.map) {
#pragma unroll
      for (int k = 0; k < 4; k++) out[k] = stage.value[codes >> 8 * k & 0xFF];
    } else if (moment.format == DTYPE_E4M3) {
      Encoder<ENCODING_E4M3>::numbers(codes, out[0], out[1]);
      Encoder<ENCODING_E4M3>::numbers(codes >> 16, out[2], out[3]);
    } else {
      Encoder<ENCODING_E5M2>::numbers(codes, out[0], out[1]);
      Encoder<ENCODING_E5M2>::numbers(codes >> 16, out[2], out[3]);
    }
  }

  __device__ uint32_t encode(const float *scaled) const {
    uint32_t codes = 0;
    if (below >= 0) {
      const float least = below == 0 ? 0.0f : -LOOKUP_LIMIT; /* below 0 only where a state that was loaded is wrong */
      uint32_t word[4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
        word[k] = lookup_word(stage.entry + below, shift, factor, fmaxf(scaled[k], least));
      }
      codes = __byte_perm(__byte_perm(word[0], word[1], 0x73), __byte_perm(word[2], word[3], 0x73), 0x5410);
    } else if (moment.map) {
      codes = search_codes(moment.map, make_float4(scaled[0], scaled[1], scaled[2], scaled[3]));
    } else if (moment.format == DTYPE_E4M3) {
      codes = Encoder<ENCODING_E4M3>::pair(scaled[0], scaled[1]) | Encoder<ENCODING_E4M3>::pair(scaled[2], scaled[3])
                                                                       << 16;
    } else {
      codes = Encoder<ENCODING_E5M2>::pair(scaled[0], scaled[1]) | Encoder<ENCODING_E5M2>::pair(scaled[2], scaled[3])
                                                                       << 16;
    }
    return codes;
  }
};

/* 0 where it is not valid. */
__device__ inline void decode_moment(const MomentCodec &codec, uint2 codes, float scale, const Eight &at,
                                     float (&moment)[EIGHT]) {
  codec.decode(codes.x, moment);
  codec.decode(codes.y, moment + 4);
#pragma unroll
  for (int k = 0; k < EIGHT; k++) moment[k] = moment[k] * scale;
  if (at.vectors) return;
#pragma unroll
  for (int k = 0; k < EIGHT; k++) moment[k] = k < at.valid ? moment[k] : 0.0f;
}

__device__ __noinline__ float scaled_slowly(float value, BlockScaling scaling) {
  return scaled_element(value, &scaling);
}

/* Encodes what a group of threads holds of a block, 0 where it is not valid. All threads call it together, with words in
 * shared memory as group_maximum takes them. */
__device__ inline void store_moment(const MomentCodec &codec, void *data, float *scale, int block_shift,
                                    const Eight &at, const float (&moment)[EIGHT], uint32_t *shared) {
  uint32_t magnitude = 0;
#pragma unroll
  for (int k = 0; k < EIGHT; k++) magnitude = max(magnitude, float_to_bits(moment[k]) & 0x7FFFFFFFu);
  const int group = (1 << block_shift) / EIGHT;
  magnitude = group_maximum(magnitude, group, shared);
  const float block_scale = scale_of_magnitude(magnitude, codec.moment.format, SCALE_EXACT);
  const BlockScaling scaling = block_scaling(block_scale, 1.0f / block_scale, false);
  float scaled[EIGHT];
  if (scaling.divide || scaling.empty) {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) scaled[k] = scaled_slowly(moment[k], scaling);
  } else {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) scaled[k] = moment[k] * scaling.inverse;
  }
  if (codec.moment.smallest > 0) {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) scaled[k] = second_scaled(moment[k], scaled[k], codec.moment.smallest);
  }
  uint2 codes = make_uint2(codec.encode(scaled), codec.encode(scaled + 4));
  if (scaling.broken && !codec.moment.map) codes = make_uint2(0x7F7F7F7Fu, 0x7F7F7F7Fu); /* NaN in both formats */
  store_codes(data, at, codes);
  if (threadIdx.x % group == 0 && at.valid > 0) scale[at.i >> block_shift] = block_scale;
}

} // namespace

#endif
