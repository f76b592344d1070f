/* Batch normalization: of the channels of contiguous (images, channels, elements). */
#include "cuda/cuda.h"
#include "normalize/normalize.h"

static NormalizeParameter parameter_of(const Tensor *tensor) {
  if (!tensor) return (NormalizeParameter){0};
  return (NormalizeParameter){tensor_data(tensor), tensor->dtype};
}

static NormalizeTotal total_of(const Tensor *tensor) {
  if (!tensor) return (NormalizeTotal){0};
  return (NormalizeTotal){tensor_data(tensor), tensor->dtype};
}

static ChannelsPlan plan_of(const Tensor *x) {
  return (ChannelsPlan){
      .x = tensor_data(x), .dtype = x->dtype, .images = x->size[0], .channels = x->size[1], .elements = x->size[2]};
}

static bool run(const CudaDevice *device, ChannelsPlan *plan, const char *name) {
  enum { PARTIAL_BYTES = 2 * sizeof(double) };
  Tensor partials = {0};
  if (plan->channels == 0) return true;
  channels_shape(plan, device->launch.multiprocessors);
  if (!cuda_scratch(&partials, device, plan->channels * plan->splits * PARTIAL_BYTES)) return false;
  plan->partials = tensor_data(&partials);
  bool done = cuda_launched(device, launch_channels(device->launch, plan), name);
  tensor_release(&partials);
  return done;
}

bool cuda_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                             const Normalization *normalization) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  ChannelsPlan plan = plan_of(normalization->x);
  plan.out = tensor_data(out);
  plan.weight = parameter_of(normalization->weight);
  plan.bias = parameter_of(normalization->bias);
  plan.mean = tensor_data(mean);
  plan.inverse = tensor_data(inverse);
  plan.variance = tensor_data(variance);
  plan.epsilon = normalization->epsilon;
  return run(device, &plan, "normalize_channels kernel");
}

bool cuda_normalize_channels_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward) {
  CudaDevice *device = cuda_tensor_device(backward->x);
  if (!device) return false;
  ChannelsPlan plan = plan_of(backward->x);
  plan.dy = tensor_data(backward->dy);
  plan.dy_dtype = backward->dy->dtype;
  plan.out = gradients->x ? tensor_data(gradients->x) : NULL;
  plan.weight = parameter_of(backward->weight);
  plan.mean = tensor_data(backward->mean);
  plan.inverse = tensor_data(backward->inverse);
  plan.weight_grad = total_of(gradients->weight);
  plan.bias_grad = total_of(gradients->bias);
  return run(device, &plan, "normalize_channels_backward kernel");
}
