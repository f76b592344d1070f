/* What the kernels of optimizer steps share: the rules for an element, rounding parameters, and StableAdamW's divisors. */
#ifndef FP8_OPTIM_UPDATE_CUH
#define FP8_OPTIM_UPDATE_CUH

#include "core/optim.h"

#include "optim/tensor_list.cuh"
#include "quantize/quantize.cuh"

namespace {

/* Whether a master is what its parameter was rounded from. */
template <typename T> __device__ inline bool rounds_to(float master, float parameter) {
  T rounded;
  from_float(master, true, rounded);
  return to_float(rounded) == parameter;
}

/* STABLE_ADAMW is ADAMW with another rate. */
template <UpdateRule RULE> struct UpdateElement;

template <> struct UpdateElement<UPDATE_SGD> {
  static constexpr bool second_moment = false;
  static __device__ void step(const UpdateStep &step, float, float rate, bool momentum, float &parameter, float grad,
                              float &first, float &) {
    float direction = decayed_gradient(grad, parameter, step.weight_decay);
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

template <> struct UpdateElement<UPDATE_ADAM> {
  static constexpr bool second_moment = true;
  static __device__ void step(const UpdateStep &step, float lr, float rate, bool, float &parameter, float grad,
                              float &first, float &second) {
    UpdateElement<UPDATE_ADAMW>::step(step, lr, rate, true, parameter,
                                      decayed_gradient(grad, parameter, step.weight_decay), first, second);
  }
};

template <> struct UpdateElement<UPDATE_LION> {
  static constexpr bool second_moment = false;
  static __device__ void step(const UpdateStep &step, float lr, float rate, bool, float &parameter, float grad,
                              float &first, float &) {
    parameter =
        parameter * (1.0f - lr * step.weight_decay) - rate * lion_direction(first, step.beta1, step.fraction1, grad);
    first = moment_after(first, step.beta2, step.fraction2, grad);
  }
};

__device__ inline void round_stochastically(float value, uint32_t, float &out) { out = value; }
__device__ inline void round_stochastically(float value, uint32_t random, Half &out) {
  out.bits = f16_stochastic(value, random);
}
__device__ inline void round_stochastically(float value, uint32_t random, BFloat16 &out) {
  out.bits = bf16_stochastic(value, random);
}

/* Parameters i … i + WIDTH - 1; i is a multiple of WIDTH. */
template <typename T, int WIDTH>
__device__ inline void store_parameters(const ListedTensor &tensor, const UpdateStep &step, int64_t i,
                                        const float (&value)[WIDTH]) {
  if (sizeof(T) == sizeof(float) || step.stochastic == 0) {
    store_as<T>(tensor.data, i, value);
    return;
  }
  uint32_t bits[WIDTH];
  rounding_bits(step_random(&step, tensor.first_word), i, bits);
  Packed<T, WIDTH> packed;
#pragma unroll
  for (int k = 0; k < WIDTH; k++) round_stochastically(value[k], bits[k], packed.element[k]);
  *reinterpret_cast<Packed<T, WIDTH> *>(static_cast<T *>(tensor.data) + i) = packed;
}

__device__ inline UpdateStep step_of(const UpdateNumbers &numbers) {
  return numbers.live ? *numbers.live : numbers.step;
}

/* STABLE_ADAMW: g² / max(v, epsilon²) of an element. */
__device__ inline float deviation_of(const UpdateStep &step, float second, float grad) {
  return square_overflows(grad) ? adamw_scaled_deviation(second, step.beta2, step.fraction2, grad, step.epsilon)
                                : adamw_deviation(second, step.beta2, step.fraction2, grad, step.epsilon);
}

/* A thread block for each tensor: divisors[tensor] = max(1, RMS). */
template <typename Plan>
__global__ void __launch_bounds__(LIST_BLOCK) divisor_kernel(const __grid_constant__ Plan plan) {
  const ListedTensor &tensor = listed(plan.list.tensor[blockIdx.x]);
  const int64_t tiles = divide_up(tensor.count, LIST_TILE);
  double sum = 0;
  for (int64_t i = threadIdx.x; i < tiles; i += LIST_BLOCK) sum += plan.numbers.partials[tensor.first_tile + i];
  sum = combine_across<LIST_BLOCK>(sum, [](double a, double b) { return a + b; });
  const float deviation = (float)sqrt(sum / (double)tensor.count);
  if (threadIdx.x == 0) plan.numbers.divisors[blockIdx.x] = deviation <= 1.0f ? 1.0f : deviation;
}

} // namespace

#endif
