/* One step of SGD with momentum or of AdamW, in place, as PyTorch defines them. Arithmetic is float32; the parameter is
 * rounded to its dtype once. */
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

struct SgdArguments {
  void *parameter;
  const void *grad;
  float *buffer; /* NULL without momentum */
  DType dtype, grad_dtype;
  int64_t count;
  SgdStep step;
  const float *live; /* SGD_FIELDS, read instead of the step; or NULL */
};

struct AdamwArguments {
  void *parameter;
  const void *grad;
  float *m, *v;
  DType dtype, grad_dtype;
  int64_t count;
  AdamwStep step;
  const float *live; /* ADAMW_FIELDS */
};

__device__ inline SgdStep step_of(const SgdArguments &arguments) {
  const float *field = arguments.live;
  if (!field) return arguments.step;
  return {field[0], field[1], field[2], field[3], field[4] != 0, field[5] != 0, nullptr};
}

__device__ inline AdamwStep step_of(const AdamwArguments &arguments) {
  const float *field = arguments.live;
  if (!field) return arguments.step;
  return {field[0], field[1], field[2], field[3], field[4], field[5], field[6], nullptr};
}

template <int WIDTH> __device__ inline void update(const SgdArguments &arguments, const SgdStep &step, int64_t i) {
  float parameter[WIDTH], grad[WIDTH], buffer[WIDTH] = {};
  load_vector(arguments.parameter, arguments.dtype, i, parameter);
  load_vector(arguments.grad, arguments.grad_dtype, i, grad);
  if (arguments.buffer && !step.first) load_as<float>(arguments.buffer, i, buffer);
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    float direction = grad[k] + step.weight_decay * parameter[k];
    if (arguments.buffer) {
      buffer[k] = step.first ? direction : step.momentum * buffer[k] + (1.0f - step.dampening) * direction;
      direction = step.nesterov ? direction + step.momentum * buffer[k] : buffer[k];
    }
    parameter[k] -= step.lr * direction;
  }
  if (arguments.buffer) store_as<float>(arguments.buffer, i, buffer);
  store_vector(arguments.parameter, arguments.dtype, i, parameter);
}

template <int WIDTH> __device__ inline void update(const AdamwArguments &arguments, const AdamwStep &step, int64_t i) {
  float parameter[WIDTH], grad[WIDTH], m[WIDTH], v[WIDTH];
  load_vector(arguments.parameter, arguments.dtype, i, parameter);
  load_vector(arguments.grad, arguments.grad_dtype, i, grad);
  load_as<float>(arguments.m, i, m);
  load_as<float>(arguments.v, i, v);
#pragma unroll
  for (int k = 0; k < WIDTH; k++) {
    m[k] = step.beta1 * m[k] + (1.0f - step.beta1) * grad[k];
    v[k] = step.beta2 * v[k] + (1.0f - step.beta2) * (grad[k] * grad[k]);
    const float decayed = parameter[k] * (1.0f - step.lr * step.weight_decay);
    const float denominator = sqrtf(v[k] / step.correction2) + step.epsilon;
    parameter[k] = decayed - step.lr * (m[k] / step.correction1) / denominator;
  }
  store_as<float>(arguments.m, i, m);
  store_as<float>(arguments.v, i, v);
  store_vector(arguments.parameter, arguments.dtype, i, parameter);
}

template <int WIDTH, typename Arguments>
__global__ void __launch_bounds__(BLOCK) update_kernel(const __grid_constant__ Arguments arguments) {
  const auto step = step_of(arguments);
  const int64_t vectors = arguments.count / WIDTH;
  for (int64_t i = global_thread(); i < vectors; i += global_threads()) update<WIDTH>(arguments, step, i * WIDTH);
  const int64_t tail = vectors * WIDTH + global_thread();
  if (WIDTH > 1 && tail < arguments.count) update<1>(arguments, step, tail);
}

struct Fields {
  float number[FIELDS_MOST];
};

__global__ void store_kernel(float *out, const __grid_constant__ Fields fields, int count) {
  if ((int)threadIdx.x < count) out[threadIdx.x] = fields.number[threadIdx.x];
}

template <typename Arguments> cudaError_t launch_update(Launch launch, const Arguments &arguments, bool aligned) {
  if (arguments.count == 0) return cudaSuccess;
  const int width = aligned ? 4 : 1;
  const int grid = grid_size(launch, (arguments.count + width - 1) / width, BLOCK, 64);
  if (aligned) {
    update_kernel<4><<<grid, BLOCK, 0, launch.stream>>>(arguments);
  } else {
    update_kernel<1><<<grid, BLOCK, 0, launch.stream>>>(arguments);
  }
  return cudaGetLastError();
}

bool is_aligned(const void *pointer) { return (uintptr_t)pointer % 16 == 0; }

} // namespace

extern "C" cudaError_t launch_sgd(Launch launch, void *parameter, DType dtype, const void *grad, DType grad_dtype,
                                  float *buffer, int64_t count, SgdStep step, const float *live) {
  const SgdArguments arguments = {parameter, grad, buffer, dtype, grad_dtype, count, step, live};
  return launch_update(launch, arguments, is_aligned(parameter) && is_aligned(grad) && is_aligned(buffer));
}

extern "C" cudaError_t launch_adamw(Launch launch, void *parameter, DType dtype, const void *grad, DType grad_dtype,
                                    float *m, float *v, int64_t count, AdamwStep step, const float *live) {
  const AdamwArguments arguments = {parameter, grad, m, v, dtype, grad_dtype, count, step, live};
  return launch_update(launch, arguments, is_aligned(parameter) && is_aligned(grad) && is_aligned(m) && is_aligned(v));
}

extern "C" cudaError_t launch_store_fields(Launch launch, float *out, const float *fields, int count) {
  Fields copy = {};
  for (int i = 0; i < count; i++) copy.number[i] = fields[i];
  store_kernel<<<1, 32, 0, launch.stream>>>(out, copy, count);
  return cudaGetLastError();
}
