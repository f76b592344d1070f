/* One step of an optimizer whose moments are codes in 8 bits (core/optim.h): decoded, updated, measured and encoded again
 * in registers, in one pass.
 *
 * Bytes that an element moves, read + written, and 8 or 16 more a block for its scales:
 *
 *                            f32              16-bit          16-bit with master
 *   SGD with momentum, Lion  9 + 5 = 14       5 + 3 = 8       9 + 7 = 16
 *   Adam and AdamW          10 + 6 = 16       6 + 4 = 10     10 + 8 = 18
 *   StableAdamW             15 + 6 = 21       9 + 4 = 13     13 + 8 = 21
 *
 * A thread takes eight neighbouring elements, and as many neighbouring threads as a block has elements over eight find
 * its scale together. Thread blocks stay and go from tile to tile, since they copy the tables of maps first. */
#include "optim/moments.cuh"
#include "optim/update.cuh"

namespace {

/* --- rules --- */

/* √x rounded to nearest, for 0 and from 2^-100 on, in the instructions that the compiler takes for sqrtf but without its
 * branches: eight of these go side by side, where branches would have them one after the other. */
__device__ inline float usual_root(float x) {
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(fmaxf(x, 0x1p-100f)));
  const float root = x * inverse, half = 0.5f * inverse;
  return fmaf(fmaf(-root, root, x), half, root);
}

/* a / b rounded to nearest, the same way, where b is from 2^-60 to 2^60 and a is 0 or in that range in magnitude. */
__device__ inline float usual_quotient(float a, float b) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(b));
  inverse = fmaf(fmaf(-b, inverse, 1.0f), inverse, inverse);
  float quotient = a * inverse;
  quotient = fmaf(fmaf(-b, quotient, a), inverse, quotient);
  quotient = fmaf(fmaf(-b, quotient, a), inverse, quotient);
  return copysignf(quotient, a); /* of -0 */
}

/* Whether magnitudes are all in a range of float32, or 0 where that is allowed. */
struct Range {
  uint32_t least = UINT32_MAX, largest = 0;

  __device__ void take(uint32_t magnitude) {
    least = min(least, magnitude);
    largest = max(largest, magnitude);
  }
  __device__ void take_unless_zero(uint32_t magnitude) {
    least = min(least, magnitude - 1);
    largest = max(largest, magnitude);
  }
  __device__ bool within(float low, float high) const {
    return least >= float_to_bits(low) && largest <= float_to_bits(high);
  }
};

/* An unusual step of one element. */
struct Stepped {
  float parameter, first, second;
};
__device__ __noinline__ Stepped step_slowly(const UpdateStep &step, float lr, float rate, float parameter, float grad,
                                            float first, float second) {
  Stepped after = {parameter, first, second};
  UpdateElement<UPDATE_ADAMW>::step(step, lr, rate, true, after.parameter, grad, after.first, after.second);
  return after;
}

/* The step of eight elements, the same as UpdateElement's; again() gives the moments before it once more. */
template <UpdateRule RULE, typename Again>
__device__ inline void step_eight(const UpdateStep &step, float lr, float rate, float (&parameter)[EIGHT],
                                  float (&grad)[EIGHT], float (&first)[EIGHT], float (&second)[EIGHT], Again again) {
  if (!UpdateElement<RULE>::second_moment) {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) {
      UpdateElement<RULE>::step(step, lr, rate, true, parameter[k], grad[k], first[k], second[k]);
    }
    return;
  }
  if (RULE == UPDATE_ADAM) {
#pragma unroll
    for (int k = 0; k < EIGHT; k++) grad[k] = decayed_gradient(grad[k], parameter[k], step.weight_decay);
  }
  float root[EIGHT];
  Range firsts, seconds, roots;
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    first[k] = moment_after(first[k], step.beta1, step.fraction1, grad[k]);
    second[k] = moment_after(second[k], step.beta2, step.fraction2, grad[k] * grad[k]);
    root[k] = usual_root(second[k]) * step.root_scale + step.epsilon;
    firsts.take_unless_zero(float_to_bits(first[k]) & 0x7FFFFFFFu);
    seconds.take_unless_zero(float_to_bits(second[k]));
    roots.take(float_to_bits(root[k]));
  }
  /* Gradients whose squares may overflow make second moments larger than this. */
  if (firsts.within(0x1p-60f, 0x1p60f) && seconds.within(0x1p-100f, 0x1p110f) && roots.within(0x1p-60f, 0x1p60f)) {
    const float kept = 1.0f - lr * step.weight_decay;
#pragma unroll
    for (int k = 0; k < EIGHT; k++) {
      parameter[k] = parameter[k] * kept - rate * usual_quotient(first[k], root[k]);
    }
    return;
  }
  again();
#pragma unroll
  for (int k = 0; k < EIGHT; k++) {
    const Stepped after = step_slowly(step, lr, rate, parameter[k], grad[k], first[k], second[k]);
    parameter[k] = after.parameter;
    first[k] = after.first;
    second[k] = after.second;
  }
}

/* --- eight elements --- */

/* What a step reads. */
template <typename T> struct Loaded {
  Words<T> parameter, grad;
  Words<float> master;
  uint2 first, second; /* codes */
  float first_scale, second_scale;
};

template <typename T, bool SECOND>
__device__ inline Loaded<T> load(const CodedTensor &coded, int block_shift, const Eight &at) {
  Loaded<T> loaded = {};
  const ListedTensor &tensor = coded.listed;
  if (at.valid > 0) loaded.first_scale = coded.first_scale[at.i >> block_shift];
  if (SECOND && at.valid > 0) loaded.second_scale = coded.second_scale[at.i >> block_shift];
  if (at.vectors) {
    loaded.first = load_codes(tensor.first, at);
    if (SECOND) loaded.second = load_codes(tensor.second, at);
    loaded.grad = load_words<T>(tensor.grad, at);
    loaded.parameter = load_words<T>(tensor.data, at);
    if (tensor.master) loaded.master = load_words<float>(tensor.master, at);
  } else {
    loaded.first = load_codes_singly(tensor.first, at);
    if (SECOND) loaded.second = load_codes_singly(tensor.second, at);
    loaded.grad = load_singly<T>(tensor.grad, at);
    loaded.parameter = load_singly<T>(tensor.data, at);
    if (tensor.master) loaded.master = load_singly<float>(tensor.master, at);
  }
  return loaded;
}

/* The parameters, rounded to nearest or stochastically. */
template <typename T>
__device__ inline void store_parameters(const ListedTensor &tensor, const UpdateStep &step, const Eight &at,
                                        float (&value)[EIGHT]) {
  if (sizeof(T) < sizeof(float) && step.stochastic != 0) {
    uint32_t bits[EIGHT];
    rounding_bits(step_random(&step, tensor.first_word), at.i, bits);
#pragma unroll
    for (int k = 0; k < EIGHT; k++) {
      T rounded;
      round_stochastically(value[k], bits[k], rounded);
      value[k] = to_float(rounded);
    }
  }
  store_eight<T>(tensor.data, at, value);
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
  const Loaded<T> loaded = load<T, has_second>(coded, plan.block_shift, at);
  float parameter[EIGHT], grad[EIGHT], first[EIGHT], second[EIGHT] = {};
  to_floats(loaded.parameter, parameter);
  to_floats(loaded.grad, grad);
  const auto decode = [&] {
    decode_moment(first_codec, loaded.first, loaded.first_scale, at, first);
    if (has_second) decode_moment(second_codec, loaded.second, loaded.second_scale, at, second);
  };
  decode();
  if (tensor.master) {
    float master[EIGHT];
    to_floats(loaded.master, master);
#pragma unroll
    for (int k = 0; k < EIGHT; k++) {
      if (rounds_to<T>(master[k], parameter[k])) parameter[k] = master[k];
    }
  }
  step_eight<RULE>(step, lr, rate, parameter, grad, first, second, decode);
  if (tensor.master) store_eight<float>(tensor.master, at, parameter);
  store_parameters<T>(tensor, step, at, parameter);
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
  __syncthreads();
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
  __syncthreads();
  const UpdateStep step = step_of(plan.numbers);
  for (int number = blockIdx.x; number < plan.list.tiles; number += gridDim.x) {
    const ListTile tile = find_tile(plan.list, number);
    const CodedTensor &coded = plan.list.tensor[tile.tensor];
    float sum = 0;
    with_scalar((DType)coded.listed.dtype, [&](auto element) {
      walk_eights(tile, coded.listed.vectors, [&](const Eight &at) {
        float grad[EIGHT], second[EIGHT];
        const float scale = at.valid > 0 ? coded.second_scale[at.i >> plan.block_shift] : 0.0f;
        const uint2 codes = load_codes(coded.listed.second, at);
        to_floats(at.vectors ? load_words<decltype(element)>(coded.listed.grad, at)
                             : load_singly<decltype(element)>(coded.listed.grad, at),
                  grad);
        decode_moment(codec, codes, scale, at, second);
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
  case UPDATE_ADAM:
    return launch_resident(update_coded_kernel<UPDATE_ADAM>, launch, plan);
  case UPDATE_LION:
    return launch_resident(update_coded_kernel<UPDATE_LION>, launch, plan);
  }
  trap_missing_case();
}
