/* One step of an optimizer whose moments are codes in 8 bits (core/optim.h): decoded, updated, measured and encoded again
 * in registers, in one pass.
 *
 * Bytes that an element moves, read + written, and 8 or 16 more a block for its scales:
 *
 *                            f32              16-bit          16-bit with master
 *   SGD with momentum        9 + 5 = 14       5 + 3 = 8       9 + 7 = 16
 *   AdamW                   10 + 6 = 16       6 + 4 = 10     10 + 8 = 18
 *   StableAdamW             15 + 6 = 21       9 + 4 = 13     13 + 8 = 21
 *
 * A thread takes eight neighbouring elements, and as many neighbouring threads as a block has elements over eight find
 * its scale together. Thread blocks stay and go from tile to tile, since they copy the tables of maps first. */
#include "optim/update.cuh"
#include "quantize/encode.cuh"

namespace {

constexpr int EIGHT = 8;

/* --- numbers and codes --- */

/* How the codes of a moment are made and read: by a look-up in shared memory, by the tables of a map that has none, or by
 * the conversions of the hardware. */
struct MomentCodec {
  const MapTable *map;    /* NULL for a hardware format */
  const uint32_t *origin; /* of the look-up; NULL for none */
  const float *value;
  int shift;
  float factor, smallest;
  DType format;

  /* The whole thread block together. */
  __device__ MomentCodec(LookupStage &stage, const MomentFormat &moment)
      : map(moment.map), origin(nullptr), value(nullptr), shift(0), factor(0), smallest(moment.smallest),
        format(moment.format) {
    if (!map) return;
    value = map->value;
    if (map->lookup.half == 0) return;
    const Encoder<ENCODING_MAP> encoder(stage, map);
    origin = encoder.origin;
    value = encoder.value;
    shift = encoder.shift;
    factor = encoder.factor;
  }

  /* Four codes in a word, the first in the lowest byte. */
  __device__ void decode(uint32_t codes, float *out) const {
    if (map) {
#pragma unroll
      for (int k = 0; k < 4; k++) out[k] = value[codes >> 8 * k & 0xFF];
    } else if (format == DTYPE_E4M3) {
      Encoder<ENCODING_E4M3>::numbers(codes, out[0], out[1]);
      Encoder<ENCODING_E4M3>::numbers(codes >> 16, out[2], out[3]);
    } else {
      Encoder<ENCODING_E5M2>::numbers(codes, out[0], out[1]);
      Encoder<ENCODING_E5M2>::numbers(codes >> 16, out[2], out[3]);
    }
  }

  __device__ uint32_t encode(const float *scaled) const {
    uint32_t codes = 0;
    if (origin) {
#pragma unroll
      for (int k = 0; k < 4; k++) codes |= lookup_word(origin, shift, factor, scaled[k]) >> 24 << 8 * k;
    } else if (map) {
      for (int k = 0; k < 4; k++) codes |= (uint32_t)map_nearest(map->midpoint, map->start, scaled[k]) << 8 * k;
    } else if (format == DTYPE_E4M3) {
      codes = Encoder<ENCODING_E4M3>::pair(scaled[0], scaled[1]) | Encoder<ENCODING_E4M3>::pair(scaled[2], scaled[3])
                                                                       << 16;
    } else {
      codes = Encoder<ENCODING_E5M2>::pair(scaled[0], scaled[1]) | Encoder<ENCODING_E5M2>::pair(scaled[2], scaled[3])
                                                                       << 16;
    }
    return codes;
  }
};

/* --- eight elements: all of them in vectors, or the first `valid`, one by one --- */

struct Eight {
  int64_t i;
  int valid;
  bool vectors;
};

template <typename T> __device__ inline void load_eight(const void *data, const Eight &at, float (&value)[EIGHT]) {
  if (at.vectors) {
    load_as<T>(data, at.i, value);
    return;
  }
#pragma unroll
  for (int k = 0; k < EIGHT; k++) value[k] = k < at.valid ? to_float(static_cast<const T *>(data)[at.i + k]) : 0.0f;
}

__device__ inline uint2 load_codes(const void *data, const Eight &at) {
  const uint8_t *codes = static_cast<const uint8_t *>(data) + at.i;
  if (at.vectors) return *reinterpret_cast<const uint2 *>(codes);
  uint32_t word[2] = {};
#pragma unroll
  for (int k = 0; k < EIGHT; k++) word[k / 4] |= k < at.valid ? (uint32_t)codes[k] << 8 * (k % 4) : 0;
  return make_uint2(word[0], word[1]);
}

__device__ inline void store_codes(void *data, const Eight &at, uint2 words) {
  uint8_t *codes = static_cast<uint8_t *>(data) + at.i;
  if (at.vectors) {
    *reinterpret_cast<uint2 *>(codes) = words;
    return;
  }
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (k < at.valid) codes[k] = (uint8_t)((k < 4 ? words.x : words.y) >> 8 * (k % 4));
  }
}

__device__ inline void store_eight(float *data, const Eight &at, const float (&value)[EIGHT]) {
  if (at.vectors) {
    store_as<float>(data, at.i, value);
    return;
  }
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (k < at.valid) data[at.i + k] = value[k];
  }
}

template <typename T>
__device__ inline void store_eight_parameters(const ListedTensor &tensor, const UpdateStep &step, const Eight &at,
                                              const float (&value)[EIGHT]) {
  if (at.vectors) {
    store_parameters<T>(tensor, step, at.i, value);
    return;
  }
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    const float one[1] = {value[k]};
    if (k < at.valid) store_parameters<T>(tensor, step, at.i + k, one);
  }
}

/* --- moments --- */

__device__ inline void load_moment(const MomentCodec &codec, const void *data, const float *scale, int block_shift,
                                   const Eight &at, float (&moment)[EIGHT]) {
  const uint2 codes = load_codes(data, at);
  const float factor = at.valid > 0 ? scale[at.i >> block_shift] : 0.0f;
  codec.decode(codes.x, moment);
  codec.decode(codes.y, moment + 4);
#pragma unroll
  for (int k = 0; k < EIGHT; k++) moment[k] = moment[k] * factor;
}

/* Encodes what a group of threads holds of a block. `shared` as in group_maximum, which all threads call together. */
__device__ inline void store_moment(const MomentCodec &codec, void *data, float *scale, int block_shift,
                                    const Eight &at, const float (&moment)[EIGHT], uint32_t *shared) {
  uint32_t magnitude = 0;
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (k < at.valid) magnitude = max(magnitude, float_to_bits(moment[k]) & 0x7FFFFFFFu);
  }
  const int group = (1 << block_shift) / EIGHT;
  magnitude = group_maximum(magnitude, group, shared);
  const float block_scale = scale_of_magnitude(magnitude, codec.format, SCALE_EXACT);
  const BlockScaling scaling = block_scaling(block_scale, 1.0f / block_scale, false);
  float scaled[EIGHT];
  if (scaling.divide) {
    for (int k = 0; k < EIGHT; k++) scaled[k] = scaled_element(moment[k], &scaling);
  } else {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) scaled[k] = scaling.empty ? 0.0f : moment[k] * scaling.inverse;
  }
#pragma unroll
  for (int k = 0; k < EIGHT; k++) scaled[k] = second_scaled(moment[k], scaled[k], codec.smallest);
  uint2 codes = make_uint2(codec.encode(scaled), codec.encode(scaled + 4));
  if (scaling.broken && !codec.map) codes = make_uint2(0x7F7F7F7Fu, 0x7F7F7F7Fu); /* NaN in both formats */
  store_codes(data, at, codes);
  if (threadIdx.x % group == 0 && at.valid > 0) scale[at.i >> block_shift] = block_scale;
}

/* Words for group_maximum, in turn. */
struct Turns {
  uint32_t (&shared)[2][LIST_BLOCK / WARP];
  int turn;

  __device__ uint32_t *next() {
    turn ^= 1;
    return shared[turn];
  }
};

/* Calls body(Eight) for the elements of a tile, the whole thread block together, so that all threads do the same number
 * of times; some have no valid elements then. */
template <typename Body> __device__ inline void walk_eights(const ListTile &tile, bool vectors, Body body) {
  for (int64_t begin = tile.begin; begin < tile.end; begin += EIGHT * LIST_BLOCK) {
    Eight at;
    at.i = begin + EIGHT * threadIdx.x;
    const int64_t rest = tile.end - at.i;
    at.valid = rest >= EIGHT ? EIGHT : rest > 0 ? (int)rest : 0;
    at.vectors = vectors && at.valid == EIGHT;
    body(at);
  }
}

/* --- kernels --- */

template <UpdateRule RULE, typename T>
__device__ inline void update_eight(const CodedPlan &plan, const CodedTensor &coded, const UpdateStep &step, float lr,
                                    float rate, const MomentCodec &first_codec, const MomentCodec &second_codec,
                                    Turns &turns, const Eight &at) {
  constexpr bool has_second = UpdateElement<RULE>::second_moment;
  const ListedTensor &tensor = coded.listed;
  float parameter[EIGHT], grad[EIGHT], first[EIGHT], second[EIGHT] = {}, master[EIGHT] = {};
  load_eight<T>(tensor.data, at, parameter);
  load_eight<T>(tensor.grad, at, grad);
  load_moment(first_codec, tensor.first, coded.first_scale, plan.block_shift, at, first);
  if (has_second) load_moment(second_codec, tensor.second, coded.second_scale, plan.block_shift, at, second);
  if (tensor.master) load_eight<float>(tensor.master, at, master);
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    if (tensor.master && rounds_to<T>(master[k], parameter[k])) parameter[k] = master[k];
    UpdateElement<RULE>::step(step, lr, rate, true, parameter[k], grad[k], first[k], second[k]);
  }
  if (tensor.master) store_eight(tensor.master, at, parameter);
  store_eight_parameters<T>(tensor, step, at, parameter);
  store_moment(first_codec, tensor.first, coded.first_scale, plan.block_shift, at, first, turns.next());
  if (has_second) {
    store_moment(second_codec, tensor.second, coded.second_scale, plan.block_shift, at, second, turns.next());
  }
}

template <UpdateRule RULE>
__global__ void __launch_bounds__(LIST_BLOCK) update_coded_kernel(const __grid_constant__ CodedPlan plan) {
  __shared__ LookupStage stage[UpdateElement<RULE>::second_moment ? 2 : 1];
  __shared__ uint32_t shared[2][LIST_BLOCK / WARP];
  const MomentCodec first(stage[0], plan.first);
  const MomentCodec second(stage[UpdateElement<RULE>::second_moment ? 1 : 0],
                           UpdateElement<RULE>::second_moment ? plan.second : plan.first);
  const UpdateStep step = step_of(plan.numbers);
  Turns turns = {shared, 0};
  for (int number = blockIdx.x; number < plan.list.tiles; number += gridDim.x) {
    const ListTile tile = find_tile(plan.list, number);
    const CodedTensor &coded = plan.list.tensor[tile.tensor];
    const float divisor = plan.numbers.divisors ? plan.numbers.divisors[tile.tensor] : 1.0f;
    const float lr = step.lr / divisor, rate = step.rate / divisor;
    with_scalar((DType)coded.listed.dtype, [&](auto element) {
      walk_eights(tile, coded.listed.vectors, [&](const Eight &at) {
        update_eight<RULE, decltype(element)>(plan, coded, step, lr, rate, first, second, turns, at);
      });
    });
  }
}

/* STABLE_ADAMW: partials[tile] = Σ g² / max(v, epsilon²) with the v that the update is going to encode. */
__global__ void __launch_bounds__(LIST_BLOCK) deviation_coded_kernel(const __grid_constant__ CodedPlan plan) {
  __shared__ LookupStage stage;
  const MomentCodec codec(stage, plan.second);
  const UpdateStep step = step_of(plan.numbers);
  for (int number = blockIdx.x; number < plan.list.tiles; number += gridDim.x) {
    const ListTile tile = find_tile(plan.list, number);
    const CodedTensor &coded = plan.list.tensor[tile.tensor];
    float sum = 0;
    with_scalar((DType)coded.listed.dtype, [&](auto element) {
      walk_eights(tile, coded.listed.vectors, [&](const Eight &at) {
        float grad[EIGHT], second[EIGHT];
        load_eight<decltype(element)>(coded.listed.grad, at, grad);
        load_moment(codec, coded.listed.second, coded.second_scale, plan.block_shift, at, second);
#pragma unroll
        for (int k = 0; k < EIGHT; k++) {
          if (k < at.valid) sum += deviation_of(step, second[k], grad[k]);
        }
      });
    });
    sum = combine_across<LIST_BLOCK>(sum, [](float a, float b) { return a + b; });
    if (threadIdx.x == 0) plan.numbers.partials[number] = sum;
  }
}

template <typename Kernel> cudaError_t launch_resident(Kernel kernel, Launch launch, const CodedPlan *plan) {
  kernel<<<resident_grid((const void *)kernel, launch, LIST_BLOCK, plan->list.tiles), LIST_BLOCK, 0, launch.stream>>>(
      *plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_update_coded(Launch launch, const CodedPlan *plan) {
  static_assert(sizeof(CodedPlan) <= 4096, "a kernel's arguments take 4 KB at most");
  if (plan->list.tiles == 0) return cudaSuccess;
  switch (plan->numbers.rule) {
  case UPDATE_SGD:
    return launch_resident(update_coded_kernel<UPDATE_SGD>, launch, plan);
  case UPDATE_STABLE_ADAMW: {
    const cudaError_t error = launch_resident(deviation_coded_kernel, launch, plan);
    if (error != cudaSuccess) return error;
    divisor_kernel<<<plan->list.tensors, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return launch_resident(update_coded_kernel<UPDATE_ADAMW>, launch, plan);
  }
  case UPDATE_ADAMW:
    return launch_resident(update_coded_kernel<UPDATE_ADAMW>, launch, plan);
  }
  trap_missing_case();
}
