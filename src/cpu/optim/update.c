/* Optimizer steps, one pass over all tensors of a parameter at a time. */
#include <math.h>
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/optim/moments.h"
#include "cpu/optim/rules.h"
#include "cpu/optim/sums.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

typedef struct ParameterUpdate {
  UpdateRule rule;
  UpdateStep step;
  void *parameter;
  const void *grad;
  Moment first, second; /* without data where there is none */
  float *master;        /* or NULL */
  DType dtype;
  int64_t count, first_word;
} ParameterUpdate;

/* Takes elements that are out of date from the parameter: master ones that do not round to it. */
VECTORIZE static void refresh_master(float *restrict master, const float *restrict rounded,
                                     const float *restrict parameter, int n) {
  for (int i = 0; i < n; i++) master[i] = rounded[i] == parameter[i] ? master[i] : parameter[i];
}

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

VECTORIZE static void round_stochastically(DType dtype, uint16_t *restrict out, const float *restrict values,
                                           const uint32_t *restrict bits, int n) {
  if (dtype == DTYPE_BF16) {
    for (int i = 0; i < n; i++) out[i] = bf16_stochastic(values[i], bits[i]);
  } else if (dtype == DTYPE_F16) {
    for (int i = 0; i < n; i++) out[i] = f16_stochastic(values[i], bits[i]);
  } else {
    trap_missing_case();
  }
}

static void store_updated(const ParameterUpdate *job, int64_t start, int n, const float *updated) {
  if (job->step.stochastic == 0 || job->dtype == DTYPE_F32) {
    store_floats(job->dtype, job->parameter, start, n, updated);
    return;
  }
  uint32_t buffer[RANDOM_WORDS];
  const uint32_t *bits = rounding_bits(step_random(&job->step, job->first_word), start, n, buffer);
  round_stochastically(job->dtype, (uint16_t *)job->parameter + start, updated, bits, n);
}

/* Elements start … start + n - 1, with their moments; NULL for none. */
static void update_chunk(const ParameterUpdate *job, int64_t start, int n, float *first, float *second) {
  float parameter_buffer[CHUNK], grad_buffer[CHUNK];
  const float *grad = load_floats(job->dtype, job->grad, start, n, grad_buffer);
  float *updated = load_updated(job, start, n, parameter_buffer);
  apply_rule(job->rule, &job->step, updated, grad, first, second, n);
  store_updated(job, start, n, updated);
}

static void update_chunks(int64_t begin, int64_t end, const void *context) {
  const ParameterUpdate *job = context;
  float *first = job->first.data, *second = job->second.data;
  for (int64_t start = begin; start < end; start += CHUNK) {
    update_chunk(job, start, chunk_length(end, start), first ? first + start : NULL, second ? second + start : NULL);
  }
}

/* The same of moments in 8 bits. */
static void update_blocks(int64_t begin, int64_t end, const void *context) {
  const ParameterUpdate *job = context;
  const int64_t length = job->first.format->blocksize;
  const bool has_second = job->second.data != NULL;
  float first[BLOCK_MOST], second[BLOCK_MOST];
  for (int64_t block = begin; block < end; block++) {
    int64_t offset = block * length;
    int count = (int)(job->count - offset < length ? job->count - offset : length);
    decode_moment(&job->first, first, offset, count);
    if (has_second) decode_moment(&job->second, second, offset, count);
    for (int start = 0; start < count; start += CHUNK) {
      update_chunk(job, offset + start, chunk_length(count, start), first + start, has_second ? second + start : NULL);
    }
    encode_moment(&job->first, first, block, count);
    if (has_second) encode_moment(&job->second, second, block, count);
  }
}

static double deviation_chunk(const void *context, int64_t start, int n) {
  const ParameterUpdate *job = context;
  float grad_buffer[CHUNK], second_buffer[CHUNK], out[CHUNK];
  const float *second = second_buffer;
  if (job->second.scale) {
    decode_moment(&job->second, second_buffer, start, n);
  } else {
    second = (const float *)job->second.data + start;
  }
  adamw_deviations(&job->step, out, load_floats(job->dtype, job->grad, start, n, grad_buffer), second, n);
  return sum_floats(out, n);
}

static void clip_update(ParameterUpdate *job) {
  float deviation = (float)sqrt(sum_chunks(job->count, deviation_chunk, job) / (double)job->count);
  float divisor = deviation <= 1.0f ? 1.0f : deviation;
  job->step.lr /= divisor;
  job->step.rate /= divisor;
}

/* --- the entries --- */

/* False with an error. */
static bool describe_moment(Moment *moment, const Tensor *tensor, const Tensor *scale, const Quantizer *format,
                            float smallest) {
  *moment = (Moment){0};
  if (!tensor) return true;
  moment->data = tensor_data(tensor);
  if (!scale) return true;
  moment->scale = tensor_data(scale);
  moment->format = format;
  moment->smallest = smallest;
  if (format->map) moment->search = search_of(format->map, false);
  return !format->map || moment->search;
}

static bool update_parameter(const Update *update, const UpdateEntry *entry) {
  ParameterUpdate job = {.rule = update->rule,
                         .step = update->step,
                         .parameter = tensor_data(entry->parameter),
                         .grad = tensor_data(entry->grad),
                         .master = entry->master ? tensor_data(entry->master) : NULL,
                         .dtype = entry->parameter->dtype,
                         .count = tensor_count(entry->parameter),
                         .first_word = entry->first_word};
  if (job.count == 0) return true;
  if (!describe_moment(&job.first, entry->first, entry->first_scale, &update->first_format, 0) ||
      !describe_moment(&job.second, entry->second, entry->second_scale, &update->second_format,
                       entry->second_scale ? smallest_number(&update->second_format) : 0)) {
    return false;
  }
  /* Nothing is captured here: a live step is read at once. */
  if (update->live) memcpy(&job.step, tensor_data(update->live), sizeof job.step);
  if (job.rule == UPDATE_STABLE_ADAMW) clip_update(&job);
  if (job.first.scale) {
    int64_t length = job.first.format->blocksize;
    parallel_for(divide_up(job.count, length), 4 * length, update_blocks, &job);
  } else {
    parallel_chunks(job.count, 2, update_chunks, &job);
  }
  return true;
}

bool cpu_update(const Update *update) {
  for (int i = 0; i < update->count; i++) {
    if (!update_parameter(update, &update->list[i])) return false;
  }
  return true;
}

bool cpu_store_words(Tensor *out, const uint32_t *words) {
  memcpy(tensor_data(out), words, (size_t)tensor_count(out) * sizeof *words);
  return true;
}
