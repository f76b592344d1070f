/* oneDNN's kernels for convolutions want layouts of their own, with channels in blocks: images and weights are reordered into
 * scratch space before, and results after. */
#include "cpu/patches/convolution_dnnl.h"

#include <omp.h>
#include <stddef.h>
#include <string.h>

#include "core/process.h"
#include "cpu/dnnl/guard.h"
#include "cpu/dnnl/library.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

static const char operation_name[] = "convolution:";

enum { TENSORS = CONVOLUTION_TENSORS };

/* Compared as bytes, so all of it is set, and 64-bit fields leave no gaps. */
typedef struct PlanKey {
  int64_t result, images, channels, outputs, groups;
  int64_t input[2], output[2], kernel[2], stride[2], dilation[2], before[2], after[2];
  int64_t type, kernel_type;
  int64_t threads;
} PlanKey;

/* Tensors in their own layout (`plain`) and in the primitive's (`inner`), which may be the same. */
typedef struct Plan {
  DnnlPlan state;
  PlanKey key;
  dnnl_primitive_t convolution, reorder[TENSORS]; /* NULL: in place */
  dnnl_memory_t plain[TENSORS], inner[TENSORS], scratch;
  size_t inner_bytes[TENSORS], scratch_bytes; /* multiples of ALIGNMENT */
  /* While it is made; here, since an exception may end that. */
  DnnlDescription description[TENSORS], any[TENSORS];
  dnnl_primitive_attr_t attributes;
  dnnl_primitive_desc_t forward, operation, moving;
} Plan;

enum { ALIGNMENT = 64 };

/* --- making a plan --- */

static void finish_making(Plan *plan) {
  dnnl_primitive_desc_t *made[] = {&plan->forward, &plan->operation, &plan->moving};
  for (int i = 0; i < 3; i++) {
    if (*made[i]) dnnl_primitive_desc_destroy(*made[i]);
    *made[i] = NULL;
  }
  if (plan->attributes) dnnl_primitive_attr_destroy(plan->attributes);
  plan->attributes = NULL;
  for (int i = 0; i < TENSORS; i++) {
    dnnl_forget(&plan->description[i]);
    dnnl_forget(&plan->any[i]);
  }
}

static void clear(void *made) {
  Plan *plan = made;
  finish_making(plan);
  if (plan->convolution) dnnl_primitive_destroy(plan->convolution);
  if (plan->scratch) dnnl_memory_destroy(plan->scratch);
  for (int i = 0; i < TENSORS; i++) {
    if (plan->reorder[i]) dnnl_primitive_destroy(plan->reorder[i]);
    if (plan->plain[i]) dnnl_memory_destroy(plan->plain[i]);
    if (plan->inner[i]) dnnl_memory_destroy(plan->inner[i]);
  }
  memset(plan, 0, sizeof *plan);
}

/* Makes both descriptions of a contiguous tensor. */
static dnnl_status_t describe(Plan *plan, int tensor, int rank, const dnnl_dims_t size, int64_t type) {
  dnnl_dims_t stride;
  int64_t count = 1;
  for (int i = rank - 1; i >= 0; i--) {
    stride[i] = count;
    count *= size[i];
  }
  dnnl_status_t status = dnnl_describe(&plan->description[tensor], rank, size, (dnnl_data_type_t)type, stride);
  return status == dnnl_success ? dnnl_describe_any(&plan->any[tensor], rank, size, (dnnl_data_type_t)type) : status;
}

static dnnl_status_t describe_tensors(Plan *plan) {
  const PlanKey *key = &plan->key;
  const dnnl_dims_t x = {key->images, key->channels, key->input[0], key->input[1]};
  const dnnl_dims_t y = {key->images, key->outputs, key->output[0], key->output[1]};
  const dnnl_dims_t kernel = {key->groups, key->outputs / key->groups, key->channels / key->groups, key->kernel[0],
                              key->kernel[1]};
  int skipped = key->groups == 1; /* then oneDNN wants no dimension of groups */
  dnnl_status_t status = describe(plan, CONVOLUTION_X, 4, x, key->type);
  if (status == dnnl_success)
    status = describe(plan, CONVOLUTION_KERNEL, 5 - skipped, kernel + skipped, key->kernel_type);
  return status == dnnl_success ? describe(plan, CONVOLUTION_Y, 4, y, key->type) : status;
}

/* How a window moves, as oneDNN has it: it counts the gaps between a kernel's elements. */
typedef struct Steps {
  dnnl_dims_t stride, gaps, before, after;
} Steps;

static Steps steps_of(const PlanKey *key) {
  Steps steps = {{0}, {0}, {0}, {0}};
  for (int i = 0; i < 2; i++) {
    steps.stride[i] = key->stride[i];
    steps.gaps[i] = key->dilation[i] - 1;
    steps.before[i] = key->before[i];
    steps.after[i] = key->after[i];
  }
  return steps;
}

#if DNNL_VERSION_MAJOR >= 3

/* The description of one of the three convolutions; gradients' want the forward one's. */
static dnnl_status_t create_description(dnnl_primitive_desc_t *made, Plan *plan, ConvolutionResult result,
                                        dnnl_engine_t engine) {
  const Steps steps = steps_of(&plan->key);
  DnnlDescription x = plan->any[CONVOLUTION_X], kernel = plan->any[CONVOLUTION_KERNEL], y = plan->any[CONVOLUTION_Y];
  switch (result) {
  case CONVOLUTION_OUTPUT:
    return dnnl_convolution_forward_primitive_desc_create(made, engine, dnnl_forward_training, dnnl_convolution_direct,
                                                          x, kernel, NULL, y, steps.stride, steps.gaps, steps.before,
                                                          steps.after, plan->attributes);
  case CONVOLUTION_INPUT:
    return dnnl_convolution_backward_data_primitive_desc_create(made, engine, dnnl_convolution_direct, x, kernel, y,
                                                                steps.stride, steps.gaps, steps.before, steps.after,
                                                                plan->forward, plan->attributes);
  case CONVOLUTION_WEIGHT:
    return dnnl_convolution_backward_weights_primitive_desc_create(made, engine, dnnl_convolution_direct, x, kernel,
                                                                   NULL, y, steps.stride, steps.gaps, steps.before,
                                                                   steps.after, plan->forward, plan->attributes);
  }
  trap_missing_case();
}

#else

static dnnl_status_t create_description(dnnl_primitive_desc_t *made, Plan *plan, ConvolutionResult result,
                                        dnnl_engine_t engine) {
  const Steps steps = steps_of(&plan->key);
  DnnlDescription *x = &plan->any[CONVOLUTION_X], *kernel = &plan->any[CONVOLUTION_KERNEL],
                  *y = &plan->any[CONVOLUTION_Y];
  dnnl_convolution_desc_t operation;
  dnnl_status_t status = dnnl_unimplemented;
  switch (result) {
  case CONVOLUTION_OUTPUT:
    status = dnnl_dilated_convolution_forward_desc_init(&operation, dnnl_forward_training, dnnl_convolution_direct, x,
                                                        kernel, NULL, y, steps.stride, steps.gaps, steps.before,
                                                        steps.after);
    break;
  case CONVOLUTION_INPUT:
    status = dnnl_dilated_convolution_backward_data_desc_init(&operation, dnnl_convolution_direct, x, kernel, y,
                                                              steps.stride, steps.gaps, steps.before, steps.after);
    break;
  case CONVOLUTION_WEIGHT:
    status = dnnl_dilated_convolution_backward_weights_desc_init(
        &operation, dnnl_convolution_direct, x, kernel, NULL, y, steps.stride, steps.gaps, steps.before, steps.after);
    break;
  }
  if (status != dnnl_success) return status;
  return dnnl_primitive_desc_create(made, &operation, plan->attributes, engine, plan->forward);
}

#endif

/* What it calls the tensors of a convolution. */
typedef struct Names {
  dnnl_query_t description[TENSORS];
  int argument[TENSORS];
} Names;

static const Names names_of[] = {
    [CONVOLUTION_OUTPUT] = {{dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
                            {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}},
    [CONVOLUTION_INPUT] = {{dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
                           {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST}},
    [CONVOLUTION_WEIGHT] = {{dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md},
                            {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}},
};

int convolution_result_tensor(ConvolutionResult result) {
  switch (result) {
  case CONVOLUTION_OUTPUT:
    return CONVOLUTION_Y;
  case CONVOLUTION_INPUT:
    return CONVOLUTION_X;
  case CONVOLUTION_WEIGHT:
    return CONVOLUTION_KERNEL;
  }
  trap_missing_case();
}

static size_t aligned_bytes(DnnlDescribed description) {
  size_t bytes = dnnl_memory_desc_get_size(description);
  return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Kernels that are compiled for a shape, of instructions that dnnl_has_instructions asks for. The others make patches, as we do,
 * but slower, or are oneDNN's reference. */
static bool is_fast(const_dnnl_primitive_desc_t description) {
  const char *name = dnnl_implementation(description);
  return (strncmp(name, "jit", 3) == 0 || strncmp(name, "br", 2) == 0) && strstr(name, "avx512");
}

/* Makes the memories of a tensor, and what moves it from one layout to the other. */
static dnnl_status_t compile_tensor(Plan *plan, int tensor, dnnl_engine_t engine) {
  ConvolutionResult result = (ConvolutionResult)plan->key.result;
  DnnlDescribed plain = dnnl_described(&plan->description[tensor]);
  DnnlDescribed inner = dnnl_primitive_desc_query_md(plan->operation, names_of[result].description[tensor], 0);
  bool is_result = tensor == convolution_result_tensor(result);
  dnnl_status_t status = dnnl_memory_create(&plan->plain[tensor], plain, engine, DNNL_MEMORY_NONE);
  if (status != dnnl_success || dnnl_memory_desc_equal(plain, inner)) return status;
  plan->inner_bytes[tensor] = aligned_bytes(inner);
  status = dnnl_memory_create(&plan->inner[tensor], inner, engine, DNNL_MEMORY_NONE);
  if (status == dnnl_success) {
    status = dnnl_reorder_primitive_desc_create(&plan->moving, is_result ? inner : plain, engine,
                                                is_result ? plain : inner, engine, NULL);
  }
  if (status != dnnl_success) return status;
  if (!dnnl_has_memory(operation_name, dnnl_making_bytes + dnnl_own_scratch_bytes(plan->moving)))
    return dnnl_out_of_memory;
  status = dnnl_primitive_create(&plan->reorder[tensor], plan->moving);
  dnnl_primitive_desc_destroy(plan->moving);
  plan->moving = NULL;
  return status;
}

static dnnl_status_t compile(void *made, dnnl_engine_t engine) {
  Plan *plan = made;
  ConvolutionResult result = (ConvolutionResult)plan->key.result;
  dnnl_status_t status = describe_tensors(plan);
  if (status == dnnl_success) status = dnnl_primitive_attr_create(&plan->attributes);
  if (status == dnnl_success)
    status = dnnl_primitive_attr_set_scratchpad_mode(plan->attributes, dnnl_scratchpad_mode_user);
  if (status == dnnl_success && result != CONVOLUTION_OUTPUT)
    status = create_description(&plan->forward, plan, CONVOLUTION_OUTPUT, engine);
  if (status == dnnl_success) status = create_description(&plan->operation, plan, result, engine);
  if (status == dnnl_success && !is_fast(plan->operation)) status = dnnl_unimplemented;
  for (int i = 0; i < TENSORS && status == dnnl_success; i++) status = compile_tensor(plan, i, engine);
  if (status == dnnl_success) {
    DnnlDescribed scratch = dnnl_primitive_desc_query_md(plan->operation, dnnl_query_scratchpad_md, 0);
    plan->scratch_bytes = aligned_bytes(scratch);
    status = dnnl_memory_create(&plan->scratch, scratch, engine, DNNL_MEMORY_NONE);
  }
  if (status == dnnl_success && !dnnl_has_memory(operation_name, dnnl_making_bytes)) status = dnnl_out_of_memory;
  if (status == dnnl_success) status = dnnl_primitive_create(&plan->convolution, plan->operation);
  finish_making(plan);
  return status;
}

static const DnnlPlanKind plan_kind = {.user = DNNL_CONVOLUTIONS,
                                       .operation = operation_name,
                                       .plan_bytes = sizeof(Plan),
                                       .key_offset = offsetof(Plan, key),
                                       .key_bytes = sizeof(PlanKey),
                                       .compile = compile,
                                       .clear = clear};

static PlanKey key_of(const DirectConvolution *convolution) {
  const WindowAxis *axes[] = {&convolution->window.y, &convolution->window.x};
  PlanKey key;
  memset(&key, 0, sizeof key);
  key.result = convolution->result;
  key.images = convolution->images;
  key.channels = convolution->channels;
  key.outputs = convolution->outputs;
  key.groups = convolution->groups;
  for (int i = 0; i < 2; i++) {
    key.input[i] = axes[i]->input;
    key.output[i] = axes[i]->output;
    key.kernel[i] = axes[i]->kernel;
    key.stride[i] = axes[i]->stride;
    key.dilation[i] = axes[i]->dilation;
    key.before[i] = axes[i]->before;
    key.after[i] = axes[i]->after;
  }
  key.type = dnnl_type_of(convolution->dtype);
  key.kernel_type = dnnl_type_of(convolution->kernel_dtype);
  key.threads = omp_get_max_threads();
  return key;
}

/* --- running it --- */

/* A convolution, and what has become of it: a failure at first, for an exception leaves that. */
typedef struct Run {
  const DirectConvolution *convolution;
  void *scratch; /* allocated while it is run */
  size_t scratch_bytes;
  bool succeeded, done;
} Run;

/* Hands out the scratch space, and tells the memories where they are. */
static dnnl_status_t place(const Plan *plan, const DirectConvolution *convolution, char *scratch) {
  dnnl_status_t status = dnnl_memory_set_data_handle(plan->scratch, scratch);
  scratch += plan->scratch_bytes;
  for (int i = 0; i < TENSORS && status == dnnl_success; i++) {
    status = dnnl_memory_set_data_handle(plan->plain[i], convolution->data[i]);
    if (status == dnnl_success && plan->inner[i]) status = dnnl_memory_set_data_handle(plan->inner[i], scratch);
    scratch += plan->inner_bytes[i];
  }
  return status;
}

static dnnl_status_t reorder(const Plan *plan, int tensor, dnnl_memory_t from, dnnl_memory_t to, dnnl_stream_t stream) {
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  return dnnl_primitive_execute(plan->reorder[tensor], stream, 2, arguments);
}

static dnnl_status_t execute(const Plan *plan, dnnl_stream_t stream) {
  ConvolutionResult result = (ConvolutionResult)plan->key.result;
  int written = convolution_result_tensor(result);
  dnnl_exec_arg_t arguments[TENSORS + 1] = {[TENSORS] = {DNNL_ARG_SCRATCHPAD, plan->scratch}};
  dnnl_status_t status = dnnl_success;
  for (int i = 0; i < TENSORS && status == dnnl_success; i++) {
    arguments[i].arg = names_of[result].argument[i];
    arguments[i].memory = plan->inner[i] ? plan->inner[i] : plan->plain[i];
    if (plan->inner[i] && i != written) status = reorder(plan, i, plan->plain[i], plan->inner[i], stream);
  }
  if (status == dnnl_success) status = dnnl_primitive_execute(plan->convolution, stream, TENSORS + 1, arguments);
  if (status == dnnl_success && plan->inner[written])
    status = reorder(plan, written, plan->inner[written], plan->plain[written], stream);
  return status == dnnl_success ? dnnl_stream_wait(stream) : status;
}

static void run_job(void *argument) {
  Run *job = argument;
  if (!dnnl_has_memory(operation_name, dnnl_running_bytes)) return;
  PlanKey key = key_of(job->convolution);
  dnnl_stream_t stream;
  const Plan *plan = dnnl_find_plan(&plan_kind, &key, &stream);
  if (!plan) return;
  if (!plan->state.supported) {
    job->succeeded = true;
    return;
  }
  job->scratch_bytes = plan->scratch_bytes;
  for (int i = 0; i < TENSORS; i++) job->scratch_bytes += plan->inner_bytes[i];
  job->scratch = scratch_allocate(job->scratch_bytes);
  if (!job->scratch) return;
  dnnl_status_t status = place(plan, job->convolution, job->scratch);
  if (status == dnnl_success) status = execute(plan, stream);
  job->succeeded = job->done = status == dnnl_success;
  if (!job->done) dnnl_fail(operation_name, "dnnl_primitive_execute", status);
}

static bool run(const DirectConvolution *convolution, bool *done) {
  Run job = {.convolution = convolution};
  if (!guard_call(run_job, &job)) dnnl_fail(operation_name, "convolution", dnnl_out_of_memory);
  if (job.scratch) scratch_release(job.scratch, job.scratch_bytes);
  *done = job.done;
  return job.succeeded;
}

/* Threads that sleep take some 60 µs to wake, in which one alone does this many multiplications of 16 bits, and half as
 * many of 32. */
static const double small_convolution = 0x1p24;

static double operations_of(const DirectConvolution *convolution) {
  const WindowAxis *y = &convolution->window.y, *x = &convolution->window.x;
  return (double)convolution->images * (double)convolution->outputs * (double)convolution->channels /
         (double)convolution->groups * (double)(y->output * x->output) * (double)(y->kernel * x->kernel) *
         (convolution->dtype == DTYPE_F32 ? 2 : 1);
}

static bool run_on_threads(const DirectConvolution *convolution, bool *done) {
  int threads = omp_get_max_threads();
  bool alone = operations_of(convolution) < small_convolution || omp_in_parallel() || !threads_can_start(threads);
  if (alone) omp_set_num_threads(1);
  bool succeeded = run(convolution, done);
  if (alone) omp_set_num_threads(threads);
  return succeeded;
}

bool convolution_dnnl(const DirectConvolution *convolution, bool *done) {
  process_has_threads();
  if (run_on_threads(convolution, done)) return true;
  host_trim();
  return run_on_threads(convolution, done);
}
