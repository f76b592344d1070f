/* Optimizer steps, one pass over all tensors of a parameter. */
#include <math.h>
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

VECTORIZE static void sgd_plain(const SgdStep *step, float *restrict p, const float *restrict grad, int n) {
  float lr = step->lr, decay = step->weight_decay;
  for (int i = 0; i < n; i++) p[i] -= lr * (grad[i] + decay * p[i]);
}

VECTORIZE static void sgd_momentum(const SgdStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict buffer, int n) {
  float lr = step->lr, decay = step->weight_decay;
  /* On the first step the buffer may hold anything, so it must not enter, not even times 0. */
  float momentum = step->momentum, fraction = 1.0f - step->dampening;
  bool first = step->first, nesterov = step->nesterov;
  for (int i = 0; i < n; i++) {
    float g = grad[i] + decay * p[i];
    float moved = momentum * buffer[i] + fraction * g;
    float b = first ? g : moved;
    buffer[i] = b;
    p[i] -= lr * (nesterov ? g + momentum * b : b);
  }
}

VECTORIZE static void adamw_floats(const AdamwStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict m, float *restrict v, int n) {
  float beta1 = step->beta1, beta2 = step->beta2, lr = step->lr, epsilon = step->epsilon;
  float decay = 1.0f - step->lr * step->weight_decay;
  float correction1 = step->correction1, correction2 = step->correction2;
  for (int i = 0; i < n; i++) {
    float g = grad[i];
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * (g * g);
    p[i] = p[i] * decay - lr * (m[i] / correction1) / (sqrtf(v[i] / correction2) + epsilon);
  }
}

typedef struct Update {
  const SgdStep *sgd; /* or NULL, and: */
  const AdamwStep *adamw;
  void *parameter;
  const void *grad;
  float *m, *v; /* SGD: m is the momentum buffer or NULL */
  DType parameter_dtype, grad_dtype;
  int64_t count;
} Update;

static void update_chunks(int64_t begin, int64_t end, const void *context) {
  const Update *job = context;
  float parameter_buffer[CHUNK], grad_buffer[CHUNK];
  for (int64_t start = begin * CHUNK; start < job->count && start < end * CHUNK; start += CHUNK) {
    int n = job->count - start < CHUNK ? (int)(job->count - start) : CHUNK;
    const float *grad = load_floats(job->grad_dtype, job->grad, start, n, grad_buffer);
    /* A float32 parameter is loaded as itself and changed in place. */
    float *parameter = (float *)load_floats(job->parameter_dtype, job->parameter, start, n, parameter_buffer);
    if (job->adamw) {
      adamw_floats(job->adamw, parameter, grad, job->m + start, job->v + start, n);
    } else if (job->m) {
      sgd_momentum(job->sgd, parameter, grad, job->m + start, n);
    } else {
      sgd_plain(job->sgd, parameter, grad, n);
    }
    store_floats(job->parameter_dtype, job->parameter, start, n, parameter);
  }
}

static void update(Update job, Tensor *parameter, const Tensor *grad) {
  job.parameter = tensor_data(parameter);
  job.grad = tensor_data(grad);
  job.parameter_dtype = parameter->dtype;
  job.grad_dtype = grad->dtype;
  job.count = tensor_count(parameter);
  parallel_for((job.count + CHUNK - 1) / CHUNK, 2 * CHUNK, update_chunks, &job);
}

/* Nothing is captured here: a live step is read at once. */
static SgdStep live_sgd(const Tensor *live) {
  const float *field = tensor_data(live);
  return (SgdStep){.lr = field[0],
                   .momentum = field[1],
                   .dampening = field[2],
                   .weight_decay = field[3],
                   .nesterov = field[4] != 0,
                   .first = field[5] != 0};
}

static AdamwStep live_adamw(const Tensor *live) {
  const float *field = tensor_data(live);
  return (AdamwStep){.lr = field[0],
                     .beta1 = field[1],
                     .beta2 = field[2],
                     .epsilon = field[3],
                     .weight_decay = field[4],
                     .correction1 = field[5],
                     .correction2 = field[6]};
}

bool cpu_sgd(Tensor *parameter, const Tensor *grad, Tensor *buffer, const SgdStep *step) {
  SgdStep read = step->live ? live_sgd(step->live) : *step;
  update((Update){.sgd = &read, .m = buffer ? tensor_data(buffer) : NULL}, parameter, grad);
  return true;
}

bool cpu_adamw(Tensor *parameter, const Tensor *grad, Tensor *m, Tensor *v, const AdamwStep *step) {
  AdamwStep read = step->live ? live_adamw(step->live) : *step;
  update((Update){.adamw = &read, .m = tensor_data(m), .v = tensor_data(v)}, parameter, grad);
  return true;
}

bool cpu_store_fields(Tensor *out, const float *fields) {
  memcpy(tensor_data(out), fields, (size_t)tensor_count(out) * sizeof *fields);
  return true;
}
