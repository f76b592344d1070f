/* Engines. cuDNN's heuristic puts likely fast ones first; the first is taken whose arithmetic is float32's. */
#include "cuda/patches/convolution_engine.h"

#include <stdlib.h>

enum { CANDIDATES = 128 };

static const int64_t workspace_most = (int64_t)1 << 30;

static const int64_t id_x = 'x', id_weight = 'w', id_y = 'y';

void convolution_engine_release(const Cudnn *cudnn, ConvolutionEngine *engine) {
  while (engine->count > 0) cudnn->destroy_descriptor(engine->descriptors[--engine->count]);
  free(engine);
}

/* --- making an engine: the first call that fails is the last --- */

typedef struct Making {
  const Cudnn *cudnn;
  CudnnHandle handle;
  ConvolutionEngine *engine;
  int status;
} Making;

/* A descriptor that the engine keeps; NULL where the status says why not. */
static CudnnDescriptor create(Making *making, CudnnKind kind) {
  CudnnDescriptor descriptor = NULL;
  if (making->status == CUDNN_SUCCESS) making->status = making->cudnn->create_descriptor(kind, &descriptor);
  if (making->status != CUDNN_SUCCESS) return NULL;
  return making->engine->descriptors[making->engine->count++] = descriptor;
}

static void set(Making *making, CudnnDescriptor descriptor, int attribute, CudnnType type, int64_t count,
                const void *elements) {
  if (making->status == CUDNN_SUCCESS)
    making->status = making->cudnn->set_attribute(descriptor, attribute, type, count, elements);
}

static void finalize(Making *making, CudnnDescriptor descriptor) {
  if (making->status == CUDNN_SUCCESS) making->status = making->cudnn->finalize(descriptor);
}

static int32_t data_type(DType dtype) {
  switch (dtype) {
  case DTYPE_F32:
    return CUDNN_DATA_FLOAT;
  case DTYPE_F16:
    return CUDNN_DATA_HALF;
  case DTYPE_BF16:
    return CUDNN_DATA_BFLOAT16;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
  case DTYPE_U8:
  case DTYPE_I32:
  case DTYPE_I64:
    break;
  }
  trap_missing_case();
}

static CudnnDescriptor describe_tensor(Making *making, const Tensor *tensor, const int64_t *id, int64_t alignment) {
  CudnnDescriptor descriptor = create(making, CUDNN_TENSOR);
  int32_t type = data_type(tensor->dtype);
  const int64_t *size = tensor->size, stride[] = {size[1] * size[2] * size[3], size[2] * size[3], size[3], 1};
  set(making, descriptor, CUDNN_TENSOR_TYPE, CUDNN_DATA_TYPE, 1, &type);
  set(making, descriptor, CUDNN_TENSOR_SIZES, CUDNN_INT64, 4, size);
  set(making, descriptor, CUDNN_TENSOR_STRIDES, CUDNN_INT64, 4, stride);
  set(making, descriptor, CUDNN_TENSOR_ID, CUDNN_INT64, 1, id);
  set(making, descriptor, CUDNN_TENSOR_ALIGNMENT, CUDNN_INT64, 1, &alignment);
  finalize(making, descriptor);
  return descriptor;
}

static CudnnDescriptor describe_window(Making *making, const Window *window) {
  CudnnDescriptor descriptor = create(making, CUDNN_CONVOLUTION);
  const WindowAxis *y = &window->y, *x = &window->x;
  const int32_t type = CUDNN_DATA_FLOAT, mode = CUDNN_CROSS_CORRELATION;
  const int64_t dimensions = 2;
  const int64_t stride[] = {y->stride, x->stride}, dilation[] = {y->dilation, x->dilation},
                before[] = {y->before, x->before}, after[] = {y->after, x->after};
  set(making, descriptor, CUDNN_CONVOLUTION_COMPUTE_TYPE, CUDNN_DATA_TYPE, 1, &type);
  set(making, descriptor, CUDNN_CONVOLUTION_MODE, CUDNN_MODE, 1, &mode);
  set(making, descriptor, CUDNN_CONVOLUTION_DIMENSIONS, CUDNN_INT64, 1, &dimensions);
  set(making, descriptor, CUDNN_CONVOLUTION_STRIDES, CUDNN_INT64, dimensions, stride);
  set(making, descriptor, CUDNN_CONVOLUTION_DILATIONS, CUDNN_INT64, dimensions, dilation);
  set(making, descriptor, CUDNN_CONVOLUTION_PADDING_BEFORE, CUDNN_INT64, dimensions, before);
  set(making, descriptor, CUDNN_CONVOLUTION_PADDING_AFTER, CUDNN_INT64, dimensions, after);
  finalize(making, descriptor);
  return descriptor;
}

static CudnnKind operation_kind(ConvolutionResult result, int *first_attribute) {
  switch (result) {
  case CONVOLUTION_OUTPUT:
    *first_attribute = CUDNN_FORWARD_ALPHA;
    return CUDNN_CONVOLUTION_FORWARD;
  case CONVOLUTION_INPUT:
    *first_attribute = CUDNN_BACKWARD_DATA_ALPHA;
    return CUDNN_CONVOLUTION_BACKWARD_DATA;
  case CONVOLUTION_WEIGHT:
    *first_attribute = CUDNN_BACKWARD_FILTER_ALPHA;
    return CUDNN_CONVOLUTION_BACKWARD_FILTER;
  }
  trap_missing_case();
}

/* The graph of the one operation. */
static CudnnDescriptor describe_graph(Making *making, const ConvolutionTensors *tensors) {
  const ConvolutionProblem *problem = &making->engine->problem;
  CudnnDescriptor x = describe_tensor(making, tensors->x, &id_x, problem->alignment_x);
  CudnnDescriptor weight = describe_tensor(making, tensors->weight, &id_weight, problem->alignment_weight);
  CudnnDescriptor y = describe_tensor(making, tensors->y, &id_y, problem->alignment_y);
  CudnnDescriptor window = describe_window(making, &tensors->window);
  int first;
  CudnnDescriptor operation = create(making, operation_kind(tensors->result, &first));
  const int shift = first - CUDNN_FORWARD_ALPHA;
  const float one = 1, zero = 0;
  set(making, operation, CUDNN_FORWARD_ALPHA + shift, CUDNN_FLOAT, 1, &one);
  set(making, operation, CUDNN_FORWARD_BETA + shift, CUDNN_FLOAT, 1, &zero);
  set(making, operation, CUDNN_FORWARD_CONVOLUTION + shift, CUDNN_DESCRIPTOR, 1, &window);
  set(making, operation, CUDNN_FORWARD_WEIGHT + shift, CUDNN_DESCRIPTOR, 1, &weight);
  set(making, operation, CUDNN_FORWARD_X + shift, CUDNN_DESCRIPTOR, 1, &x);
  set(making, operation, CUDNN_FORWARD_Y + shift, CUDNN_DESCRIPTOR, 1, &y);
  finalize(making, operation);
  CudnnDescriptor graph = create(making, CUDNN_OPERATION_GRAPH);
  set(making, graph, CUDNN_GRAPH_HANDLE, CUDNN_HANDLE, 1, &making->handle);
  set(making, graph, CUDNN_GRAPH_OPERATIONS, CUDNN_DESCRIPTOR, 1, &operation);
  finalize(making, graph);
  return graph;
}

/* Which of cuDNN's arithmetic keeps what backend.h promises. */
typedef struct Permission {
  bool is_float32;
  bool fft, only_fft;
} Permission;

/* float32 products are no TF32, and sums are float32, in one order. Those of 16 bits are exact where they can be, which
 * transforms don't keep. */
static bool is_allowed_note(int note, const Permission *permission) {
  switch (note) {
  case CUDNN_NOTE_TENSOR_CORE:
    return !permission->is_float32;
  case CUDNN_NOTE_DOWN_CONVERT_INPUTS:
  case CUDNN_NOTE_REDUCED_PRECISION_REDUCTION:
  case CUDNN_NOTE_NONDETERMINISTIC:
    return false;
  case CUDNN_NOTE_FFT:
    return permission->fft;
  case CUDNN_NOTE_WINOGRAD:
  case CUDNN_NOTE_WINOGRAD_TILE_4:
  case CUDNN_NOTE_WINOGRAD_TILE_6:
  case CUDNN_NOTE_WINOGRAD_TILE_13:
    return permission->is_float32;
  }
  return true;
}

static bool is_allowed(const Cudnn *cudnn, CudnnDescriptor config, const Permission *permission) {
  CudnnDescriptor engine;
  int32_t notes[CUDNN_NOTE_COUNT];
  int64_t count = 0;
  if (cudnn->create_descriptor(CUDNN_ENGINE, &engine) != CUDNN_SUCCESS) return false;
  bool allowed =
      cudnn->get_attribute(config, CUDNN_CONFIG_ENGINE, CUDNN_DESCRIPTOR, 1, &count, &engine) == CUDNN_SUCCESS &&
      cudnn->get_attribute(engine, CUDNN_ENGINE_NOTES, CUDNN_NOTE, CUDNN_NOTE_COUNT, &count, notes) == CUDNN_SUCCESS;
  bool is_fft = false;
  for (int64_t i = 0; allowed && i < count; i++) {
    allowed = is_allowed_note(notes[i], permission);
    is_fft = is_fft || notes[i] == CUDNN_NOTE_FFT;
  }
  cudnn->destroy_descriptor(engine);
  return allowed && (is_fft || !permission->only_fft);
}

/* Where engines by Fourier transforms are taken. Elsewhere they are slow; and with groups, or where more is padded at the end
 * than before, some give wrong results without saying that they don't support it (cuDNN 9.19). */
static bool suits_fft(const ConvolutionProblem *problem) {
  enum { FEWEST_CHANNELS = 16 };
  bool suits = problem->dtype == DTYPE_F32 && problem->groups == 1 && problem->channels >= FEWEST_CHANNELS &&
               problem->outputs >= FEWEST_CHANNELS;
  for (int i = 0; i < 2; i++) {
    suits = suits && problem->kernel[i] > 1 && problem->stride[i] == 1 && problem->dilation[i] == 1 &&
            problem->before[i] == problem->after[i];
  }
  return suits;
}

/* Gives the engine the plan of a configuration; leaves it without one where that can't be computed. */
static void try_plan(Making *making, CudnnDescriptor config) {
  const Cudnn *cudnn = making->cudnn;
  CudnnDescriptor plan;
  int64_t workspace = 0, count;
  if (cudnn->create_descriptor(CUDNN_EXECUTION_PLAN, &plan) != CUDNN_SUCCESS) return;
  bool made = cudnn->set_attribute(plan, CUDNN_PLAN_HANDLE, CUDNN_HANDLE, 1, &making->handle) == CUDNN_SUCCESS &&
              cudnn->set_attribute(plan, CUDNN_PLAN_CONFIG, CUDNN_DESCRIPTOR, 1, &config) == CUDNN_SUCCESS &&
              cudnn->finalize(plan) == CUDNN_SUCCESS &&
              cudnn->get_attribute(plan, CUDNN_PLAN_WORKSPACE, CUDNN_INT64, 1, &count, &workspace) == CUDNN_SUCCESS;
  if (!made || workspace > workspace_most) {
    cudnn->destroy_descriptor(plan);
    return;
  }
  making->engine->plan = plan;
  making->engine->workspace = workspace;
}

/* Takes the first of what the heuristic proposes, likely fastest first, that is allowed and can be computed. */
static void choose(Making *making, CudnnDescriptor graph, int32_t mode, bool only_fft) {
  const Cudnn *cudnn = making->cudnn;
  ConvolutionEngine *engine = making->engine;
  const Permission permission = {engine->problem.dtype == DTYPE_F32, suits_fft(&engine->problem), only_fft};
  CudnnDescriptor heuristic, configs[CANDIDATES];
  int64_t created = 0, found = 0;
  if (cudnn->create_descriptor(CUDNN_ENGINE_HEURISTIC, &heuristic) != CUDNN_SUCCESS) return;
  while (created < CANDIDATES && cudnn->create_descriptor(CUDNN_ENGINE_CONFIG, &configs[created]) == CUDNN_SUCCESS) {
    created++;
  }
  bool asked = cudnn->set_attribute(heuristic, CUDNN_HEURISTIC_GRAPH, CUDNN_DESCRIPTOR, 1, &graph) == CUDNN_SUCCESS &&
               cudnn->set_attribute(heuristic, CUDNN_HEURISTIC_MODE, CUDNN_HEURISTIC, 1, &mode) == CUDNN_SUCCESS &&
               cudnn->finalize(heuristic) == CUDNN_SUCCESS &&
               cudnn->get_attribute(heuristic, CUDNN_HEURISTIC_RESULTS, CUDNN_DESCRIPTOR, created, &found, configs) ==
                   CUDNN_SUCCESS;
  for (int64_t i = 0; i < created; i++) {
    bool first = asked && i < found && !engine->plan;
    if (first && is_allowed(cudnn, configs[i], &permission)) try_plan(making, configs[i]);
    if (first && engine->plan) {
      engine->descriptors[engine->count++] = configs[i];
      engine->descriptors[engine->count++] = engine->plan;
    } else {
      cudnn->destroy_descriptor(configs[i]);
    }
  }
  cudnn->destroy_descriptor(heuristic);
}

/* Winograd's transforms err by 2e-5 in long sums, those of the weight's gradient, and their engine has no note of them:
 * Fourier's are about as fast, and hardly err. */
static void choose_among_lists(Making *making, CudnnDescriptor graph) {
  static const int32_t modes[] = {CUDNN_MODE_A, CUDNN_MODE_FALLBACK};
  const ConvolutionProblem *problem = &making->engine->problem;
  bool prefers_fft = problem->result == CONVOLUTION_WEIGHT && suits_fft(problem);
  for (int only_fft = prefers_fft; only_fft >= 0; only_fft--) {
    for (int i = 0; i < 2 && !making->engine->plan; i++) choose(making, graph, modes[i], only_fft);
  }
}

/* The status's category says that this convolution is none for cuDNN. */
static bool is_refusal(int status) { return status / 1000 == CUDNN_BAD_PARAM || status / 1000 == CUDNN_NOT_SUPPORTED; }

ConvolutionEngine *convolution_engine_make(const ConvolutionRun *run, const ConvolutionProblem *problem) {
  ConvolutionEngine *engine = host_allocate_zeroed(1, sizeof *engine);
  if (!engine) return NULL;
  engine->problem = *problem;
  Making making = {.cudnn = run->cudnn, .handle = run->handle, .engine = engine};
  cuda_enter_device_call();
  CudnnDescriptor graph = describe_graph(&making, run->tensors);
  if (making.status == CUDNN_SUCCESS) choose_among_lists(&making, graph);
  cuda_leave_device_call();
  if (making.status != CUDNN_SUCCESS && !is_refusal(making.status)) {
    cudnn_check(run->cudnn, making.status, "a cuDNN operation");
    convolution_engine_release(run->cudnn, engine);
    return NULL;
  }
  return engine;
}

/* --- computing --- */

static int execute(const ConvolutionRun *run, const ConvolutionEngine *engine, void *workspace) {
  const Cudnn *cudnn = run->cudnn;
  const ConvolutionTensors *tensors = run->tensors;
  const int64_t ids[] = {id_x, id_weight, id_y};
  void *const pointers[] = {tensor_data(tensors->x), tensor_data(tensors->weight), tensor_data(tensors->y)};
  CudnnDescriptor pack;
  int status = cudnn->create_descriptor(CUDNN_VARIANT_PACK, &pack);
  if (status != CUDNN_SUCCESS) return status;
  status = cudnn->set_attribute(pack, CUDNN_PACK_IDS, CUDNN_INT64, 3, ids);
  if (status == CUDNN_SUCCESS) status = cudnn->set_attribute(pack, CUDNN_PACK_POINTERS, CUDNN_POINTER, 3, pointers);
  if (status == CUDNN_SUCCESS) status = cudnn->set_attribute(pack, CUDNN_PACK_WORKSPACE, CUDNN_POINTER, 1, &workspace);
  if (status == CUDNN_SUCCESS) status = cudnn->finalize(pack);
  if (status == CUDNN_SUCCESS) status = cudnn->execute(run->handle, engine->plan, pack);
  cudnn->destroy_descriptor(pack);
  return status;
}

bool convolution_execute(const ConvolutionRun *run, const ConvolutionEngine *engine) {
  Tensor workspace = {0};
  if (engine->workspace > 0 && !cuda_scratch(&workspace, run->device, engine->workspace)) return false;
  int status = execute(run, engine, engine->workspace > 0 ? tensor_data(&workspace) : NULL);
  tensor_release(&workspace);
  return cudnn_check(run->cudnn, status, "cudnnBackendExecute") &&
         cuda_launched(run->device, cudaSuccess, "cudnnBackendExecute");
}
