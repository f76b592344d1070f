/* One step of an optimizer for a list of parameters, in place; core/optim.h has the formulas. Arithmetic is float32; a
 * parameter is rounded to its dtype once.
 *
 * Bytes that an element moves, read + written:
 *
 *                            f32              16-bit          16-bit with master
 *   SGD                      8 + 4 = 12       4 + 2 = 6       8 + 6 = 14
 *   SGD with momentum       12 + 8 = 20       8 + 6 = 14     12 + 10 = 22
 *   Lion                    12 + 8 = 20       8 + 6 = 14     12 + 10 = 22
 *   Adam and AdamW          16 + 12 = 28     12 + 10 = 22    16 + 14 = 30
 *   StableAdamW             24 + 12 = 36     18 + 10 = 28    22 + 14 = 36
 *
 * The 124 million parameters of GPT-2 in bf16 with masters take 3.7 GB a step of AdamW, 1.25 ms of a device that copies
 * at 2,980 GB/s. Threads take four elements at a time: 16 bytes of what is f32, which is most of it. */
#include "optim/update.cuh"

namespace {

template <UpdateRule RULE, typename T, int WIDTH>
__device__ inline void update(const ListedTensor &tensor, const UpdateStep &step, float lr, float rate, int64_t i) {
  float parameter[WIDTH], grad[WIDTH], first[WIDTH] = {}, second[WIDTH] = {}, master[WIDTH] = {};
  load_as<T>(tensor.data, i, parameter);
  load_as<T>(tensor.grad, i, grad);
  if (tensor.first) load_as<float>(tensor.first, i, first);
  if (UpdateElement<RULE>::second_moment) load_as<float>(tensor.second, i, second);
  if (tensor.master) load_as<float>(tensor.master, i, master);
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    if (tensor.master && rounds_to<T>(master[k], parameter[k])) parameter[k] = master[k];
    UpdateElement<RULE>::step(step, lr, rate, tensor.first != nullptr, parameter[k], grad[k], first[k], second[k]);
  }
  if (tensor.first) store_as<float>(tensor.first, i, first);
  if (UpdateElement<RULE>::second_moment) store_as<float>(tensor.second, i, second);
  if (tensor.master) store_as<float>(tensor.master, i, parameter);
  store_parameters<T>(tensor, step, i, parameter);
}

template <UpdateRule RULE>
__global__ void __launch_bounds__(LIST_BLOCK) update_kernel(const __grid_constant__ UpdatePlan plan) {
  const UpdateStep step = step_of(plan.numbers);
  const ListTile tile = find_tile(plan.list, blockIdx.x);
  const ListedTensor &tensor = plan.list.tensor[tile.tensor];
  const float divisor = plan.numbers.divisors ? plan.numbers.divisors[tile.tensor] : 1.0f;
  const float lr = step.lr / divisor, rate = step.rate / divisor;
  with_scalar((DType)tensor.dtype, [&](auto element) {
    walk_tile<4, 1>(tile, tensor.vectors, [&](auto width, int64_t i) {
      update<RULE, decltype(element), decltype(width)::value>(tensor, step, lr, rate, i);
    });
  });
}

/* --- StableAdamW: how far the update of a tensor is to be clipped --- */

/* partials[tile] = Σ g² / max(v, epsilon²) with the v that the update is going to write. */
__global__ void __launch_bounds__(LIST_BLOCK) deviation_kernel(const __grid_constant__ UpdatePlan plan) {
  const UpdateStep step = step_of(plan.numbers);
  const ListTile tile = find_tile(plan.list, blockIdx.x);
  const ListedTensor &tensor = plan.list.tensor[tile.tensor];
  float sum = 0;
  with_scalar((DType)tensor.dtype, [&](auto element) {
    walk_tile<4, 4>(tile, tensor.vectors, [&](auto width, int64_t i) {
      constexpr int count = decltype(width)::value;
      float grad[count], second[count];
      load_as<decltype(element)>(tensor.grad, i, grad);
      load_as<float>(tensor.second, i, second);
#pragma unroll
      for (int k = 0; k < count; k++) {
        sum += deviation_of(step, second[k], grad[k]);
      }
    });
  });
  sum = combine_across<LIST_BLOCK>(sum, [](float a, float b) { return a + b; });
  if (threadIdx.x == 0) plan.numbers.partials[blockIdx.x] = sum;
}

/* --- a step on the device --- */

struct Words {
  uint32_t word[FIELDS_MOST];
};

__global__ void store_kernel(uint32_t *out, const __grid_constant__ Words words, int count) {
  if ((int)threadIdx.x < count) out[threadIdx.x] = words.word[threadIdx.x];
}

} // namespace

extern "C" cudaError_t launch_update(Launch launch, const UpdatePlan *plan) {
  static_assert(sizeof(UpdatePlan) <= 4096, "a kernel's arguments take 4 KB at most");
  if (plan->list.tiles == 0) return cudaSuccess;
  const int tiles = plan->list.tiles;
  switch (plan->numbers.rule) {
  case UPDATE_SGD:
    update_kernel<UPDATE_SGD><<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  case UPDATE_STABLE_ADAMW:
    deviation_kernel<<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    divisor_kernel<<<plan->list.tensors, LIST_BLOCK, 0, launch.stream>>>(*plan);
    update_kernel<UPDATE_ADAMW><<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  case UPDATE_ADAMW:
    update_kernel<UPDATE_ADAMW><<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  case UPDATE_ADAM:
    update_kernel<UPDATE_ADAM><<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  case UPDATE_LION:
    update_kernel<UPDATE_LION><<<tiles, LIST_BLOCK, 0, launch.stream>>>(*plan);
    return cudaGetLastError();
  }
  trap_missing_case();
}

extern "C" cudaError_t launch_store_words(Launch launch, uint32_t *out, const uint32_t *words, int count) {
  Words copy = {};
  for (int i = 0; i < count; i++) copy.word[i] = words[i];
  store_kernel<<<1, 32, 0, launch.stream>>>(out, copy, count);
  return cudaGetLastError();
}
