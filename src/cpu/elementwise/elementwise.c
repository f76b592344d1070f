#include "cpu/elementwise/elementwise.h"

#include <stdlib.h>

#include "cpu/parallel.h"
#include "cpu/stream.h"

typedef struct Elementwise {
  int op, inputs;
  ElementwiseKernels kernels;
  Stream out, in[ELEMENTWISE_MAX_INPUTS];
  bool in_place; /* out is also an input: kernels are promised that they never write what they read */
} Elementwise;

/* Whether the second input is the same for all of a chunk, which a kernel takes as one number. */
static bool is_beside_one(const Elementwise *job, int64_t start, int n, float *number) {
  const Stream *second = &job->in[1];
  if (!job->kernels.beside_one) return false;
  if (second->data) {
    const void *element = stream_one(second, start, n);
    if (element) *number = *load_floats(second->dtype, element, 0, 1, number);
    return element != NULL;
  }
  *number = (float)second->number.value;
  return true;
}

static void run_floats(int64_t begin, int64_t end, const void *context) {
  const Elementwise *job = context;
  Chunk out_chunk, in_chunk[ELEMENTWISE_MAX_INPUTS];
  const float *in[ELEMENTWISE_MAX_INPUTS];
  for (int i = 0; i < job->inputs; i++) {
    if (!job->in[i].data) in[i] = stream_floats(&job->in[i], 0, CHUNK, &in_chunk[i]);
  }
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const uint16_t *bf16 = job->kernels.of_bf16 ? stream_direct(&job->in[0], start, n) : NULL;
    if (bf16) {
      stream_fetch_next(&job->in[0], bf16, n);
      float *out = stream_float_target(&job->out, start, n, &out_chunk);
      job->kernels.of_bf16(job->op, out, bf16, n);
      stream_store_floats(&job->out, start, n, out, &out_chunk);
      continue;
    }
    float number;
    bool beside_one = is_beside_one(job, start, n, &number);
    for (int i = 0; i < job->inputs; i++) {
      if (job->in[i].data && !(beside_one && i == 1)) in[i] = stream_floats(&job->in[i], start, n, &in_chunk[i]);
    }
    if (beside_one) in[1] = &number;
    float *out = job->in_place ? out_chunk.floats : stream_float_target(&job->out, start, n, &out_chunk);
    FloatKernel kernel = beside_one ? job->kernels.beside_one : job->kernels.floats;
    kernel(job->op, out, in, n);
    stream_store_floats(&job->out, start, n, out, &out_chunk);
  }
}

static void run_integers(int64_t begin, int64_t end, const void *context) {
  const Elementwise *job = context;
  Chunk out_chunk, in_chunk[ELEMENTWISE_MAX_INPUTS];
  const int64_t *in[ELEMENTWISE_MAX_INPUTS];
  for (int i = 0; i < job->inputs; i++) {
    if (!job->in[i].data) in[i] = stream_integers(&job->in[i], 0, CHUNK, &in_chunk[i]);
  }
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    for (int i = 0; i < job->inputs; i++) {
      if (job->in[i].data) in[i] = stream_integers(&job->in[i], start, n, &in_chunk[i]);
    }
    int64_t *out = job->in_place ? out_chunk.integers : stream_integer_target(&job->out, start, n, &out_chunk);
    job->kernels.integers(job->op, out, in, n);
    stream_store_wrapped_integers(&job->out, start, n, out, &out_chunk);
  }
}

/* Swaps two dimensions of every tensor. */
static void swap_dimensions(Tensor *views, int count, int a, int b) {
  for (int i = 0; i < count; i++) {
    int64_t size = views[i].size[a], stride = views[i].stride[a];
    views[i].size[a] = views[i].size[b];
    views[i].stride[a] = views[i].stride[b];
    views[i].size[b] = size;
    views[i].stride[b] = stride;
  }
}

/* Sorts the dimensions of all views by the strides of the first, largest first, so that a transposed output is
 * written in the order of memory. */
static void sort_dimensions(Tensor *views, int count) {
  for (int end = views->rank; end > 1; end--) {
    for (int i = 1; i < end; i++) {
      if (llabs(views->stride[i - 1]) < llabs(views->stride[i])) swap_dimensions(views, count, i - 1, i);
    }
  }
}

bool elementwise(Tensor *out, const Operand *in, int inputs, int op, ElementwiseKernels kernels) {
  Elementwise job = {.op = op, .inputs = inputs, .kernels = kernels};
  Tensor views[1 + ELEMENTWISE_MAX_INPUTS] = {*out};
  int tensors = 1;
  for (int i = 0; i < inputs; i++) {
    if (!in[i].tensor) continue;
    views[tensors++] = *in[i].tensor;
    job.in_place |= in[i].tensor->storage == out->storage;
  }
  if (!tensor_is_contiguous(out)) sort_dimensions(views, tensors);
  job.out = stream_of(&views[0]);
  tensors = 1;
  for (int i = 0; i < inputs; i++) {
    job.in[i] = in[i].tensor ? stream_of(&views[tensors++]) : stream_of_operand(&in[i]);
  }
  return parallel_chunks_until(tensor_stopper(out), job.out.count, 1, kernels.integers ? run_integers : run_floats,
                               &job);
}
