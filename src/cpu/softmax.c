/* Softmax over the last dimension, and cross-entropy. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/index.h"
#include "cpu/parallel.h"
#include "cpu/reduce_kernels.h"
#include "cpu/stream.h"
#include "cpu/vector_math.h"
#include "cpu/vectorize.h"

/* Elements a transcendental function costs about as much time as. */
enum { EXP_WORK = 4 };

VECTORIZE static void exp_minus(float *restrict out, const float *restrict x, float shift, int n) {
  for (int i = 0; i < n; i++) out[i] = vector_exp(x[i] - shift);
}

static int chunk_length(int64_t length, int64_t start) {
  return length - start < CHUNK ? (int)(length - start) : CHUNK;
}

/* Of one row: the largest element, and the sum of exp(x - largest). */
typedef struct RowSum {
  float largest;
  float sum;
} RowSum;

static RowSum row_sum(DType dtype, const void *data, int64_t first, int64_t length) {
  float buffer[CHUNK], power[CHUNK], largest = -INFINITY;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    float chunk_largest = max_floats(load_floats(dtype, data, first + start, n, buffer), n);
    largest = chunk_largest > largest || chunk_largest != chunk_largest ? chunk_largest : largest;
  }
  double sum = 0;
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    exp_minus(power, load_floats(dtype, data, first + start, n, buffer), largest, n);
    sum += sum_floats(power, n);
  }
  return (RowSum){largest, (float)sum};
}

/* --- softmax --- */

typedef struct Softmax {
  DType out_dtype, x_dtype, y_dtype;
  void *out;
  const void *x, *y; /* backward: x is dy, y the output of softmax */
  int64_t length;    /* of a row */
  bool logarithm;
} Softmax;

static void softmax_rows(int64_t begin, int64_t end, const void *context) {
  const Softmax *job = context;
  float buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->length;
    RowSum row_total = row_sum(job->x_dtype, job->x, first, job->length);
    float factor = 1.0f / row_total.sum, logarithm = logf(row_total.sum);
    for (int64_t start = 0; start < job->length; start += CHUNK) {
      int n = chunk_length(job->length, start);
      const float *x = load_floats(job->x_dtype, job->x, first + start, n, buffer);
      if (job->logarithm) {
        for (int i = 0; i < n; i++) out[i] = (x[i] - row_total.largest) - logarithm;
      } else {
        exp_minus(out, x, row_total.largest, n);
        for (int i = 0; i < n; i++) out[i] *= factor;
      }
      store_floats(job->out_dtype, job->out, first + start, n, out);
    }
  }
}

bool cpu_softmax(Tensor *out, const Tensor *x, bool logarithm) {
  int64_t length = x->size[x->rank - 1], count = tensor_count(x);
  if (count == 0) return true;
  Softmax job = {.out_dtype = out->dtype,
                 .x_dtype = x->dtype,
                 .out = tensor_data(out),
                 .x = tensor_data(x),
                 .length = length,
                 .logarithm = logarithm};
  parallel_for(count / length, length * 2 * EXP_WORK, softmax_rows, &job);
  return true;
}

/* dx = y (dy - Σ dy y); for the logarithm dx = dy - e^y Σ dy. */
static void softmax_backward_rows(int64_t begin, int64_t end, const void *context) {
  const Softmax *job = context;
  float dy_buffer[CHUNK], y_buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->length;
    double total = 0;
    for (int64_t start = 0; start < job->length; start += CHUNK) {
      int n = chunk_length(job->length, start);
      const float *dy = load_floats(job->x_dtype, job->x, first + start, n, dy_buffer);
      if (!job->logarithm) {
        const float *y = load_floats(job->y_dtype, job->y, first + start, n, y_buffer);
        for (int i = 0; i < n; i++) out[i] = dy[i] * y[i];
        dy = out;
      }
      total += sum_floats(dy, n);
    }
    float sum = (float)total;
    for (int64_t start = 0; start < job->length; start += CHUNK) {
      int n = chunk_length(job->length, start);
      const float *dy = load_floats(job->x_dtype, job->x, first + start, n, dy_buffer);
      const float *y = load_floats(job->y_dtype, job->y, first + start, n, y_buffer);
      if (job->logarithm) {
        exp_minus(out, y, 0.0f, n);
        for (int i = 0; i < n; i++) out[i] = dy[i] - out[i] * sum;
      } else {
        for (int i = 0; i < n; i++) out[i] = y[i] * (dy[i] - sum);
      }
      store_floats(job->out_dtype, job->out, first + start, n, out);
    }
  }
}

bool cpu_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, bool logarithm) {
  int64_t length = y->size[y->rank - 1], count = tensor_count(y);
  if (count == 0) return true;
  Softmax job = {dx->dtype, dy->dtype, y->dtype, tensor_data(dx), tensor_data(dy), tensor_data(y), length, logarithm};
  parallel_for(count / length, length * EXP_WORK, softmax_backward_rows, &job);
  return true;
}

/* --- cross-entropy --- */

typedef struct CrossEntropy {
  DType logits_dtype, target_dtype, out_dtype;
  const void *logits, *target;
  float *loss;
  void *dlogits;
  Stream dloss;
  int64_t classes;
} CrossEntropy;

static int64_t target_of(const CrossEntropy *job, int64_t row) {
  int64_t buffer;
  return *load_integers(job->target_dtype, job->target, row, 1, &buffer);
}

static void cross_entropy_rows(int64_t begin, int64_t end, const void *context) {
  const CrossEntropy *job = context;
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->classes;
    RowSum total = row_sum(job->logits_dtype, job->logits, first, job->classes);
    float buffer;
    float chosen = *load_floats(job->logits_dtype, job->logits, first + target_of(job, row), 1, &buffer);
    job->loss[row] = logf(total.sum) + (total.largest - chosen);
  }
}

bool cpu_cross_entropy(Tensor *loss, const Tensor *logits, const Tensor *target) {
  int64_t classes = logits->size[1];
  if (!check_range(target, classes, "target", "classes")) return false;
  CrossEntropy job = {.logits_dtype = logits->dtype,
                      .target_dtype = target->dtype,
                      .logits = tensor_data(logits),
                      .target = tensor_data(target),
                      .loss = tensor_data(loss),
                      .classes = classes};
  parallel_for(logits->size[0], classes * EXP_WORK, cross_entropy_rows, &job);
  return true;
}

static void cross_entropy_backward_rows(int64_t begin, int64_t end, const void *context) {
  const CrossEntropy *job = context;
  float buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->classes, chosen = target_of(job, row);
    RowSum total = row_sum(job->logits_dtype, job->logits, first, job->classes);
    float dloss = *(const float *)stream_address(&job->dloss, row), factor = 1.0f / total.sum;
    for (int64_t start = 0; start < job->classes; start += CHUNK) {
      int n = chunk_length(job->classes, start);
      exp_minus(out, load_floats(job->logits_dtype, job->logits, first + start, n, buffer), total.largest, n);
      for (int i = 0; i < n; i++) out[i] *= factor;
      if (chosen >= start && chosen < start + n) out[chosen - start] -= 1.0f;
      for (int i = 0; i < n; i++) out[i] *= dloss;
      store_floats(job->out_dtype, job->dlogits, first + start, n, out);
    }
  }
}

bool cpu_cross_entropy_backward(Tensor *dlogits, const Tensor *logits, const Tensor *target, const Tensor *dloss) {
  int64_t classes = logits->size[1];
  if (!check_range(target, classes, "target", "classes")) return false;
  CrossEntropy job = {.logits_dtype = logits->dtype,
                      .target_dtype = target->dtype,
                      .out_dtype = dlogits->dtype,
                      .logits = tensor_data(logits),
                      .target = tensor_data(target),
                      .dlogits = tensor_data(dlogits),
                      .dloss = stream_of(dloss),
                      .classes = classes};
  parallel_for(logits->size[0], classes * 2 * EXP_WORK, cross_entropy_backward_rows, &job);
  return true;
}
