/* Optimizer steps and norms, one pass over all tensors of a parameter at a time. */
#include <math.h>
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

VECTORIZE static void sgd_plain(const UpdateStep *step, float *restrict p, const float *restrict grad, int n) {
  float rate = step->rate, decay = step->weight_decay;
  for (int i = 0; i < n; i++) p[i] -= rate * sgd_gradient(grad[i], p[i], decay);
}

VECTORIZE static void sgd_momentum(const UpdateStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict m, int n) {
  float rate = step->rate, decay = step->weight_decay;
  float momentum = step->beta1, fraction = step->fraction1;
  bool nesterov = step->nesterov != 0;
  for (int i = 0; i < n; i++) {
    float g = sgd_gradient(grad[i], p[i], decay);
    m[i] = moment_after(m[i], momentum, fraction, g);
    p[i] -= rate * sgd_direction(g, m[i], momentum, nesterov);
  }
}

VECTORIZE static void adamw_floats(const UpdateStep *step, float *restrict p, const float *restrict grad,
                                   float *restrict m, float *restrict v, int n) {
  float beta1 = step->beta1, fraction1 = step->fraction1, beta2 = step->beta2, fraction2 = step->fraction2;
  float rate = step->rate, root_scale = step->root_scale, epsilon = step->epsilon;
  float kept = 1.0f - step->lr * step->weight_decay;
  for (int i = 0; i < n; i++) {
    m[i] = moment_after(m[i], beta1, fraction1, grad[i]);
    v[i] = moment_after(v[i], beta2, fraction2, grad[i] * grad[i]);
    p[i] = adamw_parameter(p[i], m[i], v[i], kept, rate, root_scale, epsilon);
  }
}

/* Whether a gradient may be one of those whose squares overflow. */
static bool has_large(const float *grad, int n) { return largest_magnitude(grad, n) > float_to_bits(0x1p63f); }

/* For such gradients. */
static void adamw_large_floats(const UpdateStep *step, float *p, const float *grad, float *m, float *v, int n) {
  float kept = 1.0f - step->lr * step->weight_decay;
  for (int i = 0; i < n; i++) {
    adamw_moments(&m[i], &v[i], step, grad[i]);
    p[i] = adamw_parameter(p[i], m[i], v[i], kept, step->rate, step->root_scale, step->epsilon);
  }
}

/* Takes elements that are out of date from the parameter: master ones that do not round to it. */
VECTORIZE static void refresh_master(float *restrict master, const float *restrict rounded,
                                     const float *restrict parameter, int n) {
  for (int i = 0; i < n; i++) master[i] = rounded[i] == parameter[i] ? master[i] : parameter[i];
}

/* --- one parameter --- */

typedef struct ParameterUpdate {
  UpdateRule rule;
  UpdateStep step;
  void *parameter;
  const void *grad;
  float *first, *second, *master; /* or NULL */
  DType dtype;
  int64_t count;
} ParameterUpdate;

/* Elements start … start + n - 1 of what is updated, as float32: the tensor itself if that is f32. */
static float *load_updated(const ParameterUpdate *job, int64_t start, int n, float *buffer) {
  const float *parameter = load_floats(job->dtype, job->parameter, start, n, buffer);
  if (!job->master) return (float *)parameter;
  uint16_t narrow[CHUNK];
  float rounded[CHUNK];
  store_floats(job->dtype, narrow, 0, n, job->master + start);
  refresh_master(job->master + start, load_floats(job->dtype, narrow, 0, n, rounded), parameter, n);
  return job->master + start;
}

static void apply_rule(const ParameterUpdate *job, float *updated, const float *grad, int64_t start, int n) {
  switch (job->rule) {
  case UPDATE_SGD:
    if (job->first) {
      sgd_momentum(&job->step, updated, grad, job->first + start, n);
    } else {
      sgd_plain(&job->step, updated, grad, n);
    }
    return;
  case UPDATE_ADAMW:
  case UPDATE_STABLE_ADAMW:
    if (has_large(grad, n)) {
      adamw_large_floats(&job->step, updated, grad, job->first + start, job->second + start, n);
    } else {
      adamw_floats(&job->step, updated, grad, job->first + start, job->second + start, n);
    }
    return;
  }
  trap_missing_case();
}

static void update_chunks(int64_t begin, int64_t end, const void *context) {
  const ParameterUpdate *job = context;
  float parameter_buffer[CHUNK], grad_buffer[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const float *grad = load_floats(job->dtype, job->grad, start, n, grad_buffer);
    float *updated = load_updated(job, start, n, parameter_buffer);
    apply_rule(job, updated, grad, start, n);
    store_floats(job->dtype, job->parameter, start, n, updated);
  }
}

/* --- sums --- */

/* As many slices whatever the number of threads, so that a sum is always the same. */
enum { SUM_SLICES = 64 };

typedef double (*ChunkSum)(const ParameterUpdate *job, int64_t start, int n);

typedef struct ElementSum {
  ChunkSum chunk;
  const ParameterUpdate *job;
  double *slice;
} ElementSum;

static void sum_slices(int64_t begin, int64_t end, const void *context) {
  const ElementSum *sum = context;
  int64_t count = sum->job->count, chunks = divide_up(count, CHUNK);
  for (int64_t slice = begin; slice < end; slice++) {
    double total = 0;
    for (int64_t start = chunks * slice / SUM_SLICES * CHUNK; start < chunks * (slice + 1) / SUM_SLICES * CHUNK;
         start += CHUNK) {
      total += sum->chunk(sum->job, start, chunk_length(count, start));
    }
    sum->slice[slice] = total;
  }
}

static double sum_elements(const ParameterUpdate *job, ChunkSum chunk) {
  double slice[SUM_SLICES], total = 0;
  ElementSum sum = {chunk, job, slice};
  parallel_for(SUM_SLICES, job->count / SUM_SLICES + 1, sum_slices, &sum);
  for (int i = 0; i < SUM_SLICES; i++) total += slice[i];
  return total;
}

VECTORIZE static void deviations(const UpdateStep *step, float *restrict out, const float *restrict grad,
                                 const float *restrict v, int n) {
  float beta2 = step->beta2, fraction2 = step->fraction2, epsilon = step->epsilon;
  for (int i = 0; i < n; i++) out[i] = adamw_deviation(v[i], beta2, fraction2, grad[i], epsilon);
}

static void correct_large_deviations(const UpdateStep *step, float *out, const float *grad, const float *v, int n) {
  for (int i = 0; i < n; i++) {
    if (!square_overflows(grad[i])) continue;
    out[i] = adamw_scaled_deviation(v[i], step->beta2, step->fraction2, grad[i], step->epsilon);
  }
}

static double deviation_chunk(const ParameterUpdate *job, int64_t start, int n) {
  float buffer[CHUNK], out[CHUNK];
  const float *grad = load_floats(job->dtype, job->grad, start, n, buffer), *second = job->second + start;
  deviations(&job->step, out, grad, second, n);
  if (has_large(grad, n)) correct_large_deviations(&job->step, out, grad, second, n);
  return sum_floats(out, n);
}

static double square_chunk(const ParameterUpdate *job, int64_t start, int n) {
  float buffer[CHUNK];
  return squares_from(load_floats(job->dtype, job->grad, start, n, buffer), 0, n);
}

/* --- the entries --- */

static void clip_update(ParameterUpdate *job) {
  float deviation = (float)sqrt(sum_elements(job, deviation_chunk) / (double)job->count);
  float divisor = deviation <= 1.0f ? 1.0f : deviation;
  job->step.lr /= divisor;
  job->step.rate /= divisor;
}

bool cpu_update(const Update *update) {
  for (int i = 0; i < update->count; i++) {
    const UpdateEntry *entry = &update->list[i];
    ParameterUpdate job = {.rule = update->rule,
                           .step = update->step,
                           .parameter = tensor_data(entry->parameter),
                           .grad = tensor_data(entry->grad),
                           .first = entry->first ? tensor_data(entry->first) : NULL,
                           .second = entry->second ? tensor_data(entry->second) : NULL,
                           .master = entry->master ? tensor_data(entry->master) : NULL,
                           .dtype = entry->parameter->dtype,
                           .count = tensor_count(entry->parameter)};
    if (job.count == 0) continue;
    /* Nothing is captured here: a live step is read at once. */
    if (update->live) memcpy(&job.step, tensor_data(update->live), sizeof job.step);
    if (job.rule == UPDATE_STABLE_ADAMW) clip_update(&job);
    parallel_chunks(job.count, 2, update_chunks, &job);
  }
  return true;
}

typedef struct Scaling {
  const ParameterUpdate *job;
  ClipFactors factors;
} Scaling;

static void scale_chunks(int64_t begin, int64_t end, const void *context) {
  const Scaling *scaling = context;
  const ParameterUpdate *job = scaling->job;
  float buffer[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    float *values = (float *)load_floats(job->dtype, job->parameter, start, n, buffer);
    if (scaling->factors.first != 1) scale_floats(values, values, scaling->factors.first, n);
    scale_floats(values, values, scaling->factors.second, n);
    store_floats(job->dtype, job->parameter, start, n, values);
  }
}

static ParameterUpdate gradient_job(const Tensor *grad) {
  void *data = tensor_data(grad);
  return (ParameterUpdate){.parameter = data, .grad = data, .dtype = grad->dtype, .count = tensor_count(grad)};
}

bool cpu_clip_norm(Tensor *norm, Tensor *const *list, int count, float largest) {
  double total = 0;
  for (int i = 0; i < count; i++) {
    ParameterUpdate job = gradient_job(list[i]);
    total += sum_elements(&job, square_chunk);
  }
  *(float *)tensor_data(norm) = (float)sqrt(total);
  ClipFactors factors = clip_factors(sqrt(total), largest);
  if (isinf(largest) || factors.second >= 1.0f) return true;
  for (int i = 0; i < count; i++) {
    ParameterUpdate job = gradient_job(list[i]);
    parallel_chunks(job.count, 1, scale_chunks, &(Scaling){&job, factors});
  }
  return true;
}

bool cpu_store_fields(Tensor *out, const float *fields) {
  memcpy(tensor_data(out), fields, (size_t)tensor_count(out) * sizeof *fields);
  return true;
}
