/* Softmax over the last dimension, scaled and causal where asked for. */
#include <math.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/elementwise/vector_math.h"
#include "cpu/parallel.h"
#include "cpu/softmax/row_sum.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

typedef struct Softmax {
  DType out_dtype, x_dtype, y_dtype;
  void *out;
  const void *x, *y; /* backward: x is dy, y the output of softmax */
  int64_t length;    /* of a row */
  int64_t queries;   /* rows of a matrix, if causal */
  SoftmaxRule rule;
  bool is_fetched; /* ahead of its turn (vectors.h) */
} Softmax;

static Softmax softmax_job(Tensor *out, const Tensor *x, SoftmaxRule rule) {
  return (Softmax){
      .out_dtype = out->dtype,
      .x_dtype = x->dtype,
      .out = tensor_data(out),
      .x = tensor_data(x),
      .length = x->size[x->rank - 1],
      .queries = rule.causal ? x->size[x->rank - 2] : 1,
      .rule = rule,
      .is_fetched = is_fetched(tensor_count(x) * dtype_size(x->dtype)),
  };
}

/* How many elements of a row count. */
static int64_t visible_length(const Softmax *job, int64_t row) {
  if (!job->rule.causal) return job->length;
  return job->length - job->queries + row % job->queries + 1;
}

static void store_zeros(const Softmax *job, int64_t first, int64_t length) {
  static const float zeros[CHUNK];
  for (int64_t start = 0; start < length; start += CHUNK) {
    store_floats(job->out_dtype, job->out, first + start, chunk_length(length, start), zeros);
  }
}

INLINED void subtract_each(DType dtype, void *out, const void *x, float largest, float logarithm, int n) {
#pragma omp simd
  for (int i = 0; i < n; i++) store_at(dtype, out, i, (element_at(dtype, x, i) - largest) - logarithm);
}

VECTORIZE static void subtract_both(float *out, const float *x, float largest, float logarithm, int n) {
  subtract_each(DTYPE_F32, out, x, largest, logarithm, n);
}

VECTORIZE static void subtract_from_bf16(uint16_t *out, const uint16_t *x, float largest, float logarithm, int n) {
  subtract_each(DTYPE_BF16, out, x, largest, logarithm, n);
}

/* x - largest - logarithm of elements first … first + n - 1. */
static void store_logarithms(const Softmax *job, int64_t first, float largest, float logarithm, int n) {
  if (job->x_dtype == DTYPE_BF16 && job->out_dtype == DTYPE_BF16) {
    subtract_from_bf16((uint16_t *)job->out + first, (const uint16_t *)job->x + first, largest, logarithm, n);
    return;
  }
  _Alignas(64) float buffer[CHUNK];
  float *out = job->out_dtype == DTYPE_F32 ? (float *)job->out + first : buffer;
  subtract_both(out, load_floats(job->x_dtype, job->x, first, n, buffer), largest, logarithm, n);
  store_floats(job->out_dtype, job->out, first, n, out);
}

/* A row of at most CHUNK elements, which are converted, and whose exponentials are computed, once. */
static void softmax_short_row(const Softmax *job, int64_t first, int length) {
  _Alignas(64) float buffer[CHUNK], scaled[CHUNK], out[CHUNK];
  const float *x = load_floats(job->x_dtype, job->x, first, length, buffer);
  if (job->rule.scale != 1) {
    scale_floats(scaled, x, job->rule.scale, length);
    x = scaled;
  }
  float largest = max_floats(x, length);
  if (job->rule.masked && largest == -INFINITY) {
    store_zeros(job, first, length);
    return;
  }
  exp_minus(out, x, 1, largest, length);
  float sum = (float)sum_floats(out, length);
  if (job->rule.logarithm) {
    subtract_both(out, x, largest, logf(sum), length);
  } else {
    scale_floats(out, out, 1.0f / sum, length);
  }
  store_floats(job->out_dtype, job->out, first, length, out);
}

/* Rows whose exponentials are kept until their sum is known; the results of f32 are their own place for that. */
enum { KEPT = 8192 };

static void softmax_rows(int64_t begin, int64_t end, const void *context) {
  const Softmax *job = context;
  _Alignas(64) float buffer[CHUNK], out[CHUNK], kept[KEPT];
  float scale = job->rule.scale;
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->length, length = visible_length(job, row);
    store_zeros(job, first + length, job->length - length);
    if (length <= CHUNK) {
      softmax_short_row(job, first, (int)length);
      continue;
    }
    float *powers = NULL;
    if (!job->rule.logarithm && job->out_dtype == DTYPE_F32 && job->out != job->x) powers = (float *)job->out + first;
    if (!powers && !job->rule.logarithm && length <= KEPT) powers = kept;
    int64_t next = job->is_fetched ? first + job->length : 0;
    RowSum total = row_sum(job->x_dtype, job->x, first, length, scale, powers, next);
    if (job->rule.masked && total.largest == -INFINITY) {
      store_zeros(job, first, length);
      continue;
    }
    float factor = 1.0f / total.sum, logarithm = logf(total.sum);
    for (int64_t start = 0; start < length; start += CHUNK) {
      int n = chunk_length(length, start);
      if (job->is_fetched) fetch_elements(job->out_dtype, job->out, first + start + n, n);
      if (job->rule.logarithm) {
        store_logarithms(job, first + start, total.largest, logarithm, n);
        continue;
      }
      if (powers) {
        scale_floats(out, powers + start, factor, n);
      } else {
        exp_minus(out, load_floats(job->x_dtype, job->x, first + start, n, buffer), scale, total.largest, n);
        scale_floats(out, out, factor, n);
      }
      store_floats(job->out_dtype, job->out, first + start, n, out);
    }
  }
}

bool cpu_softmax(Tensor *out, const Tensor *x, SoftmaxRule rule) {
  int64_t count = tensor_count(x);
  if (count == 0) return true;
  Softmax job = softmax_job(out, x, rule);
  parallel_for(count / job.length, job.length * 2 * EXP_WORK, softmax_rows, &job);
  return true;
}

VECTORIZE static void softmax_gradient(float *restrict out, const float *restrict dy, const float *restrict y,
                                       float sum, float scale, int n) {
  for (int i = 0; i < n; i++) out[i] = y[i] * (dy[i] - sum) * scale;
}

VECTORIZE static void log_softmax_gradient(float *restrict out, const float *restrict dy, const float *restrict y,
                                           float sum, int n) {
  for (int i = 0; i < n; i++) out[i] = dy[i] - vector_exp(y[i]) * sum;
}

static const float *load_next(const Softmax *job, DType dtype, const void *data, int64_t start, int n, float *buffer) {
  if (job->is_fetched) fetch_elements(dtype, data, start + n, n);
  return load_floats(dtype, data, start, n, buffer);
}

/* dx = scale · y (dy - Σ dy y); for the logarithm dx = dy - e^y Σ dy. */
static void softmax_backward_rows(int64_t begin, int64_t end, const void *context) {
  const Softmax *job = context;
  _Alignas(64) float dy_buffer[CHUNK], y_buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->length, length = visible_length(job, row);
    double total = 0;
    for (int64_t start = 0; start < length; start += CHUNK) {
      int n = chunk_length(length, start);
      const float *dy = load_next(job, job->x_dtype, job->x, first + start, n, dy_buffer);
      if (!job->rule.logarithm) {
        multiply_floats(out, dy, load_next(job, job->y_dtype, job->y, first + start, n, y_buffer), n);
        dy = out;
      }
      total += sum_floats(dy, n);
    }
    float sum = (float)total;
    for (int64_t start = 0; start < length; start += CHUNK) {
      int n = chunk_length(length, start);
      const float *dy = load_floats(job->x_dtype, job->x, first + start, n, dy_buffer);
      const float *y = load_next(job, job->y_dtype, job->y, first + start, n, y_buffer);
      if (job->is_fetched) fetch_elements(job->out_dtype, job->out, first + start + n, n);
      if (job->rule.logarithm) {
        log_softmax_gradient(out, dy, y, sum, n);
      } else {
        softmax_gradient(out, dy, y, sum, job->rule.scale, n);
      }
      store_floats(job->out_dtype, job->out, first + start, n, out);
    }
    store_zeros(job, first + length, job->length - length);
  }
}

bool cpu_softmax_backward(Tensor *dx, const Tensor *dy, const Tensor *y, SoftmaxRule rule) {
  int64_t count = tensor_count(y);
  if (count == 0) return true;
  Softmax job = softmax_job(dx, dy, rule);
  job.y_dtype = y->dtype;
  job.y = tensor_data(y);
  parallel_for(count / job.length, job.length * EXP_WORK, softmax_backward_rows, &job);
  return true;
}
