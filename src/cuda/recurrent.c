/* The gates of recurrent layers. */
#include "cuda/cuda.h"

bool cuda_recurrent_step(Tensor *hidden, Tensor *state, Tensor *saved, const RecurrentStep *step) {
  CudaDevice *device = cuda_tensor_device(state);
  if (!device) return false;
  RecurrentPlan plan = {.dtype = state->dtype,
                        .lstm = hidden != NULL,
                        .rows = state->size[0],
                        .hidden = state->size[1],
                        .from_input = tensor_data(step->from_input),
                        .from_hidden = tensor_data(step->from_hidden),
                        .state = tensor_data(step->state),
                        .hidden_after = hidden ? tensor_data(hidden) : NULL,
                        .state_after = tensor_data(state),
                        .saved = tensor_data(saved)};
  return cuda_launched(device, launch_recurrent_step(device->launch, &plan), "recurrent kernel");
}

bool cuda_recurrent_step_backward(Tensor *from_input, Tensor *from_hidden, Tensor *state,
                                  const RecurrentBackward *backward) {
  CudaDevice *device = cuda_tensor_device(state);
  if (!device) return false;
  bool lstm = from_hidden == NULL;
  RecurrentPlan plan = {.dtype = state->dtype,
                        .lstm = lstm,
                        .rows = state->size[0],
                        .hidden = state->size[1],
                        .state = tensor_data(backward->state),
                        .saved = tensor_data(backward->saved),
                        .state_after_read = lstm ? tensor_data(backward->state_after) : NULL,
                        .grad_hidden = tensor_data(backward->grad_hidden),
                        .grad_state_after = lstm ? tensor_data(backward->grad_state_after) : NULL,
                        .grad_from_input = tensor_data(from_input),
                        .grad_from_hidden = lstm ? NULL : tensor_data(from_hidden),
                        .grad_state = tensor_data(state)};
  return cuda_launched(device, launch_recurrent_step_backward(device->launch, &plan), "recurrent kernel");
}
