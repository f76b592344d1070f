/* Convolutions by cuDNN, where it is installed. */
#include <stdlib.h>
#include <string.h>

#include "cuda/patches/convolution_engine.h"

enum { BUCKETS = 256, ENGINES_MOST = 4096 };

/* The engines of a device. */
typedef struct Convolutions {
  const Cudnn *cudnn;
  CudnnHandle handle;
  int count;
  ConvolutionEngine *bucket[BUCKETS];
} Convolutions;

/* --- opening --- */

static Convolutions *open_convolutions(CudaDevice *device, const Cudnn *cudnn) {
  if (device->convolutions) return device->convolutions;
  Convolutions *opened = host_allocate_zeroed(1, sizeof *opened);
  if (!opened) return NULL;
  opened->cudnn = cudnn;
  cuda_enter_device_call();
  int status = cudnn->create(&opened->handle);
  if (status == CUDNN_SUCCESS) {
    status = cudnn->set_stream(opened->handle, device->launch.stream);
    if (status != CUDNN_SUCCESS) cudnn->destroy(opened->handle);
  }
  cuda_leave_device_call();
  if (!cudnn_check(cudnn, status, "cudnnCreate (FP8_CUDNN=none does without cuDNN)")) {
    free(opened);
    return NULL;
  }
  return device->convolutions = opened;
}

static void release_engines(Convolutions *opened) {
  for (int i = 0; i < BUCKETS; i++) {
    while (opened->bucket[i]) {
      ConvolutionEngine *engine = opened->bucket[i];
      opened->bucket[i] = engine->next;
      convolution_engine_release(opened->cudnn, engine);
    }
  }
  opened->count = 0;
}

void cuda_release_convolutions(CudaDevice *device) {
  if (!device->convolutions) return;
  release_engines(device->convolutions);
  device->convolutions->cudnn->destroy(device->convolutions->handle);
  free(device->convolutions);
  device->convolutions = NULL;
}

/* --- finding it again --- */

static uint8_t alignment(const Tensor *tensor) { return (uint8_t)alignment_of(tensor_data(tensor), 64); }

static ConvolutionProblem problem_of(const ConvolutionTensors *tensors) {
  const WindowAxis *axes[] = {&tensors->window.y, &tensors->window.x};
  const Tensor *x = tensors->x, *weight = tensors->weight, *y = tensors->y;
  ConvolutionProblem problem = {
      .images = x->size[0],
      .channels = x->size[1],
      .outputs = y->size[1],
      .groups = x->size[1] / weight->size[1],
      .alignment_x = alignment(x),
      .alignment_weight = alignment(weight),
      .alignment_y = alignment(y),
      .dtype = (uint8_t)x->dtype,
      .weight_dtype = (uint8_t)weight->dtype,
      .result = (uint8_t)tensors->result,
  };
  for (int i = 0; i < 2; i++) {
    problem.input[i] = (int32_t)axes[i]->input;
    problem.output[i] = (int32_t)axes[i]->output;
    problem.kernel[i] = (int32_t)axes[i]->kernel;
    problem.stride[i] = (int32_t)axes[i]->stride;
    problem.dilation[i] = (int32_t)axes[i]->dilation;
    problem.before[i] = (int32_t)axes[i]->before;
    problem.after[i] = (int32_t)axes[i]->after;
  }
  return problem;
}

static uint32_t hash(const ConvolutionProblem *problem) {
  uint64_t words[sizeof *problem / sizeof(uint64_t)];
  memcpy(words, problem, sizeof words);
  return hash_words(words, sizeof words / sizeof words[0]);
}

/* The problem's engine, which is made at first; NULL with an error. Engines that a graph may have are never released. */
static ConvolutionEngine *find_engine(Convolutions *opened, const ConvolutionRun *run) {
  const CudaDevice *device = run->device;
  ConvolutionProblem problem = problem_of(run->tensors);
  ConvolutionEngine **bucket = &opened->bucket[hash(&problem) % BUCKETS];
  for (ConvolutionEngine *engine = *bucket; engine; engine = engine->next) {
    if (memcmp(&engine->problem, &problem, sizeof problem) == 0) return engine;
  }
  if (opened->count >= ENGINES_MOST && device->graphs == 0 && !device->capturing) {
    if (!cuda_check(cudaStreamSynchronize(device->launch.stream), "cudaStreamSynchronize")) return NULL;
    release_engines(opened);
  }
  ConvolutionEngine *engine = convolution_engine_make(run, &problem);
  if (!engine) return NULL;
  engine->next = *bucket;
  opened->count++;
  return *bucket = engine;
}

/* Whether elements can be counted in 32 bits, as some engines do. */
static bool are_small(const ConvolutionTensors *tensors) {
  return tensor_count(tensors->x) <= INT32_MAX && tensor_count(tensors->weight) <= INT32_MAX &&
         tensor_count(tensors->y) <= INT32_MAX;
}

/* Gradients in float32 for which all of cuDNN's fast engines add in any order: those of images of few channels, and that of a
 * weight of one element for each channel. */
static bool suits_patches(const ConvolutionTensors *tensors) {
  enum { FEW_CHANNELS = 4 };
  const Tensor *x = tensors->x, *weight = tensors->weight;
  bool is_gradient = tensors->result != CONVOLUTION_OUTPUT, has_groups = weight->size[1] != x->size[1];
  if (x->dtype != DTYPE_F32 || !is_gradient || has_groups) return false;
  bool is_pointwise =
      weight->size[2] == 1 && weight->size[3] == 1 && tensors->window.y.stride == 1 && tensors->window.x.stride == 1;
  return x->size[1] <= FEW_CHANNELS || (is_pointwise && tensors->result == CONVOLUTION_WEIGHT);
}

bool cuda_convolve(const ConvolutionTensors *tensors, bool *done) {
  const Cudnn *cudnn;
  *done = false;
  if (!cudnn_find(&cudnn)) return false;
  if (!cudnn || !are_small(tensors) || suits_patches(tensors)) return true;
  CudaDevice *device = cuda_tensor_device(tensors->x);
  Convolutions *opened = device ? open_convolutions(device, cudnn) : NULL;
  if (!opened) return false;
  ConvolutionRun run = {.device = device, .cudnn = cudnn, .handle = opened->handle, .tensors = tensors};
  ConvolutionEngine *engine = find_engine(opened, &run);
  if (!engine || !engine->plan) return engine != NULL;
  return *done = convolution_execute(&run, engine);
}
