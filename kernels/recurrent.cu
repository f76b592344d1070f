/* The gates of a step of a recurrent layer and their derivatives: core/operations.h. An element of the hidden state a
 * thread. */
#include "common.cuh"
#include "elementwise/activation.cuh"

namespace {

enum { BLOCK = 128 };

/* Element `column` of part `part` of a row of gates, as a position. */
__device__ inline int64_t gate(const RecurrentPlan &plan, int64_t row, int64_t column, int parts, int part) {
  return (row * parts + part) * plan.hidden + column;
}

template <typename Scalar> struct Elements {
  const RecurrentPlan &plan;
  __device__ float load(const void *data, int64_t at) const { return to_float(static_cast<const Scalar *>(data)[at]); }
  __device__ void store(void *data, int64_t at, float value) const {
    from_float(value, false, static_cast<Scalar *>(data)[at]);
  }
};

template <typename Scalar>
__device__ inline void gru(const RecurrentPlan &plan, int64_t i, int64_t row, int64_t column) {
  const Elements<Scalar> of = {plan};
  float x[3], h[3];
#pragma unroll
  for (int part = 0; part < 3; part++) {
    x[part] = of.load(plan.from_input, gate(plan, row, column, 3, part));
    h[part] = of.load(plan.from_hidden, gate(plan, row, column, 3, part));
  }
  const float state = of.load(plan.state, i), r = sigmoid(x[0] + h[0]), z = sigmoid(x[1] + h[1]);
  const float n = tanhf(x[2] + r * h[2]);
  of.store(plan.state_after, i, (1.0f - z) * n + z * state);
  const float saved[4] = {r, z, n, h[2]};
#pragma unroll
  for (int part = 0; part < 4; part++) of.store(plan.saved, gate(plan, row, column, 4, part), saved[part]);
}

template <typename Scalar>
__device__ inline void lstm(const RecurrentPlan &plan, int64_t at, int64_t row, int64_t column) {
  const Elements<Scalar> of = {plan};
  float a[4];
#pragma unroll
  for (int part = 0; part < 4; part++) {
    const int64_t place = gate(plan, row, column, 4, part);
    a[part] = of.load(plan.from_input, place) + of.load(plan.from_hidden, place);
    a[part] = part == 2 ? tanhf(a[part]) : sigmoid(a[part]);
    of.store(plan.saved, place, a[part]);
  }
  const float state = a[1] * of.load(plan.state, at) + a[0] * a[2];
  of.store(plan.state_after, at, state);
  of.store(plan.hidden_after, at, a[3] * tanhf(state));
}

template <typename Scalar>
__device__ inline void gru_backward(const RecurrentPlan &plan, int64_t i, int64_t row, int64_t column) {
  const Elements<Scalar> of = {plan};
  float part[4];
#pragma unroll
  for (int k = 0; k < 4; k++) part[k] = of.load(plan.saved, gate(plan, row, column, 4, k));
  const float r = part[0], z = part[1], n = part[2], grad = of.load(plan.grad_hidden, i);
  const float grad_n = grad * (1.0f - z) * (1.0f - n * n);
  const float grad_z = grad * (of.load(plan.state, i) - n) * z * (1.0f - z);
  const float grad_r = grad_n * part[3] * r * (1.0f - r);
  of.store(plan.grad_state, i, grad * z);
  const float from_input[3] = {grad_r, grad_z, grad_n}, from_hidden[3] = {grad_r, grad_z, grad_n * r};
#pragma unroll
  for (int k = 0; k < 3; k++) {
    of.store(plan.grad_from_input, gate(plan, row, column, 3, k), from_input[k]);
    of.store(plan.grad_from_hidden, gate(plan, row, column, 3, k), from_hidden[k]);
  }
}

template <typename Scalar>
__device__ inline void lstm_backward(const RecurrentPlan &plan, int64_t at, int64_t row, int64_t column) {
  const Elements<Scalar> of = {plan};
  float part[4];
#pragma unroll
  for (int k = 0; k < 4; k++) part[k] = of.load(plan.saved, gate(plan, row, column, 4, k));
  const float i = part[0], f = part[1], g = part[2], o = part[3], grad = of.load(plan.grad_hidden, at);
  const float bent = tanhf(of.load(plan.state_after_read, at));
  const float grad_state = of.load(plan.grad_state_after, at) + grad * o * (1.0f - bent * bent);
  of.store(plan.grad_state, at, grad_state * f);
  const float grads[4] = {grad_state * g * i * (1.0f - i), grad_state * of.load(plan.state, at) * f * (1.0f - f),
                          grad_state * i * (1.0f - g * g), grad * bent * o * (1.0f - o)};
#pragma unroll
  for (int k = 0; k < 4; k++) of.store(plan.grad_from_input, gate(plan, row, column, 4, k), grads[k]);
}

template <typename Scalar, bool LSTM, bool BACKWARD>
__global__ void __launch_bounds__(BLOCK) recurrent_kernel(const __grid_constant__ RecurrentPlan plan) {
  for (int64_t i = global_thread(); i < plan.rows * plan.hidden; i += global_threads()) {
    const int64_t row = i / plan.hidden, column = i - row * plan.hidden;
    if (LSTM && BACKWARD) {
      lstm_backward<Scalar>(plan, i, row, column);
    } else if (LSTM) {
      lstm<Scalar>(plan, i, row, column);
    } else if (BACKWARD) {
      gru_backward<Scalar>(plan, i, row, column);
    } else {
      gru<Scalar>(plan, i, row, column);
    }
  }
}

template <bool BACKWARD> cudaError_t run(Launch launch, const RecurrentPlan &plan) {
  if (plan.rows * plan.hidden == 0) return cudaSuccess;
  const int grid = grid_size(launch, plan.rows * plan.hidden, BLOCK, 64);
  with_scalar(plan.dtype, [&](auto scalar) {
    using Scalar = decltype(scalar);
    const auto kernel =
        plan.lstm ? recurrent_kernel<Scalar, true, BACKWARD> : recurrent_kernel<Scalar, false, BACKWARD>;
    kernel<<<grid, BLOCK, 0, launch.stream>>>(plan);
  });
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_recurrent_step(Launch launch, const RecurrentPlan *plan) {
  return run<false>(launch, *plan);
}

extern "C" cudaError_t launch_recurrent_step_backward(Launch launch, const RecurrentPlan *plan) {
  return run<true>(launch, *plan);
}
