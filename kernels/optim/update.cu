/* One step of an optimizer for a list of parameters, in place; core/optim.h has the formulas. Arithmetic is float32; a
 * parameter is rounded to its dtype once.
 *
 * Bytes that an element moves, read + written:
 *
 *                            f32              16-bit          16-bit with master
 *   SGD                      8 + 4 = 12       4 + 2 = 6       8 + 6 = 14
 *   SGD with momentum       12 + 8 = 20       8 + 6 = 14     12 + 10 = 22
 *   AdamW                   16 + 12 = 28     12 + 10 = 22    16 + 14 = 30
 *   StableAdamW             24 + 12 = 36     18 + 10 = 28    22 + 14 = 36
 *
 * The 124 million parameters of GPT-2 in bf16 with masters take 3.7 GB a step of AdamW, 1.25 ms of a device that copies
 * at 2,980 GB/s. Threads take four elements at a time: 16 bytes of what is f32, which is most of it. */
#include "core/optim.h"

#include "optim/tensor_list.cuh"

namespace {

/* Whether a master is what its parameter was rounded from. */
template <typename T> __device__ inline bool rounds_to(float master, float parameter) {
  T rounded;
  from_float(master, true, rounded);
  return to_float(rounded) == parameter;
}

/* SGD and ADAMW; STABLE_ADAMW is ADAMW with another rate. */
template <UpdateRule RULE> struct UpdateElement;

template <> struct UpdateElement<UPDATE_SGD> {
  static constexpr bool second_moment = false;
  static __device__ void step(const UpdateStep &step, float, float rate, bool momentum, float &parameter, float grad,
                              float &first, float &) {
    float direction = sgd_gradient(grad, parameter, step.weight_decay);
    if (momentum) {
      first = moment_after(first, step.beta1, step.fraction1, direction);
      direction = sgd_direction(direction, first, step.beta1, step.nesterov != 0);
    }
    parameter -= rate * direction;
  }
};

template <> struct UpdateElement<UPDATE_ADAMW> {
  static constexpr bool second_moment = true;
  static __device__ void step(const UpdateStep &step, float lr, float rate, bool, float &parameter, float grad,
                              float &first, float &second) {
    adamw_moments(&first, &second, &step, grad);
    parameter =
        adamw_parameter(parameter, first, second, 1.0f - lr * step.weight_decay, rate, step.root_scale, step.epsilon);
  }
};

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
  store_as<T>(tensor.data, i, parameter);
}

template <UpdateRule RULE>
__global__ void __launch_bounds__(LIST_BLOCK) update_kernel(const __grid_constant__ UpdatePlan plan) {
  const UpdateStep step = plan.live ? *plan.live : plan.step;
  const ListTile tile = find_tile(plan.list, blockIdx.x);
  const ListedTensor &tensor = plan.list.tensor[tile.tensor];
  const float divisor = plan.divisors ? plan.divisors[tile.tensor] : 1.0f;
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
  const UpdateStep step = plan.live ? *plan.live : plan.step;
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
        sum += square_overflows(grad[k])
                   ? adamw_scaled_deviation(second[k], step.beta2, step.fraction2, grad[k], step.epsilon)
                   : adamw_deviation(second[k], step.beta2, step.fraction2, grad[k], step.epsilon);
      }
    });
  });
  sum = combine_across<LIST_BLOCK>(sum, [](float a, float b) { return a + b; });
  if (threadIdx.x == 0) plan.partials[blockIdx.x] = sum;
}

/* A thread block for each tensor: divisors[tensor] = max(1, RMS). */
__global__ void __launch_bounds__(LIST_BLOCK) divisor_kernel(const __grid_constant__ UpdatePlan plan) {
  const ListedTensor &tensor = plan.list.tensor[blockIdx.x];
  const int64_t tiles = divide_up(tensor.count, LIST_TILE);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < tiles; i += LIST_BLOCK) sum += plan.partials[tensor.first_tile + i];
  sum = combine_across<LIST_BLOCK>(sum, [](double a, double b) { return a + b; });
  const float deviation = (float)sqrt(sum / (double)tensor.count);
  if (threadIdx.x == 0) plan.divisors[blockIdx.x] = deviation <= 1.0f ? 1.0f : deviation;
}

/* --- a step on the device --- */

struct Fields {
  float number[FIELDS_MOST];
};

__global__ void store_kernel(float *out, const __grid_constant__ Fields fields, int count) {
  if ((int)threadIdx.x < count) out[threadIdx.x] = fields.number[threadIdx.x];
}

} // namespace

extern "C" cudaError_t launch_update(Launch launch, const UpdatePlan *plan) {
  static_assert(sizeof(UpdatePlan) <= 4096, "a kernel's arguments take 4 KB at most");
  if (plan->list.tiles == 0) return cudaSuccess;
  const int tiles = plan->list.tiles;
  switch (plan->rule) {
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
  }
  trap_missing_case();
}

extern "C" cudaError_t launch_store_fields(Launch launch, float *out, const float *fields, int count) {
  Fields copy = {};
  for (int i = 0; i < count; i++) copy.number[i] = fields[i];
  store_kernel<<<1, 32, 0, launch.stream>>>(out, copy, count);
  return cudaGetLastError();
}
