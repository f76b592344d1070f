/* Layer and root mean square normalization of rows. */
#include <math.h>
#include <string.h>

#include "core/normalize.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

/* A contiguous tensor, or none where data is NULL. */
typedef struct Values {
  void *data;
  DType dtype;
} Values;

static Values values_of(const Tensor *tensor) {
  if (!tensor) return (Values){0};
  return (Values){tensor_data(tensor), tensor->dtype};
}

static const float *load(Values values, int64_t start, int n, float *buffer) {
  return load_floats(values.dtype, values.data, start, n, buffer);
}

typedef struct Normalize {
  Values out, x, dy, weight, bias, addend;
  float *mean, *inverse; /* two and one a row (backend.h); mean may be NULL */
  float epsilon;
  int64_t rows, columns;
  /* backward: the rows are cut into slices, by the shape alone, each with sums of its own */
  int64_t slice_rows;
  double *weight_sums, *bias_sums; /* (slices, columns) */
} Normalize;

static int64_t rows_of(const Tensor *x) { return tensor_count(x) / x->size[x->rank - 1]; }

/* --- forward --- */

VECTORIZE static void standardize(float *restrict out, const float *restrict x, RowMean mean, float inverse, int n) {
  for (int i = 0; i < n; i++) out[i] = normalized_value(x[i], mean, inverse);
}

static double row_mean(const Normalize *job, int64_t first) {
  float buffer[CHUNK];
  double sum = 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    sum += sum_floats(load(job->x, first + start, n, buffer), n);
  }
  return sum / (double)job->columns;
}

static float row_inverse(const Normalize *job, int64_t first, double mean) {
  float buffer[CHUNK];
  double sum = 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    sum += squares_from(load(job->x, first + start, n, buffer), mean, n);
  }
  return (float)(1 / sqrt(sum / (double)job->columns + (double)job->epsilon));
}

static RowMean kept_mean(const Normalize *job, int64_t row) {
  return job->mean ? (RowMean){job->mean[2 * row], job->mean[2 * row + 1]} : (RowMean){0};
}

static void normalize_rows(int64_t begin, int64_t end, const void *context) {
  const Normalize *job = context;
  float buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->columns;
    double exact = job->mean ? row_mean(job, first) : 0;
    RowMean mean = row_mean_of(exact);
    float inverse = row_inverse(job, first, exact);
    if (job->mean) memcpy(&job->mean[2 * row], &mean, sizeof mean);
    job->inverse[row] = inverse;
    for (int64_t start = 0; start < job->columns; start += CHUNK) {
      int n = chunk_length(job->columns, start);
      standardize(out, load(job->x, first + start, n, buffer), mean, inverse, n);
      if (job->weight.data) multiply_floats(out, out, load(job->weight, start, n, buffer), n);
      if (job->bias.data) add_floats(out, out, load(job->bias, start, n, buffer), n);
      store_floats(job->out.dtype, job->out.data, first + start, n, out);
    }
  }
}

bool cpu_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization) {
  const Tensor *x = normalization->x;
  Normalize job = {
      .out = values_of(out),
      .x = values_of(x),
      .weight = values_of(normalization->weight),
      .bias = values_of(normalization->bias),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(inverse),
      .epsilon = (float)normalization->epsilon,
      .rows = rows_of(x),
      .columns = x->size[x->rank - 1],
  };
  parallel_for(job.rows, 4 * job.columns, normalize_rows, &job);
  return true;
}

/* --- backward --- */

/* A chunk of a row: n = (x - mean) · inverse, and g = dy · weight, which is dy itself without a weight. */
typedef struct RowChunk {
  float normalized[CHUNK], weighted[CHUNK], dy_buffer[CHUNK], buffer[CHUNK];
  const float *dy, *grad;
} RowChunk;

static void load_chunk(const Normalize *job, int64_t row, int64_t start, int n, RowChunk *chunk) {
  int64_t first = row * job->columns + start;
  standardize(chunk->normalized, load(job->x, first, n, chunk->buffer), kept_mean(job, row), job->inverse[row], n);
  chunk->dy = chunk->grad = load(job->dy, first, n, chunk->dy_buffer);
  if (job->weight.data) {
    multiply_floats(chunk->weighted, chunk->dy, load(job->weight, start, n, chunk->buffer), n);
    chunk->grad = chunk->weighted;
  }
}

VECTORIZE static void add_products(double *restrict sum, const float *restrict a, const float *restrict b, int n) {
  for (int i = 0; i < n; i++) sum[i] += (double)(a[i] * b[i]);
}

VECTORIZE static void add_values(double *restrict sum, const float *restrict a, int n) {
  for (int i = 0; i < n; i++) sum[i] += (double)a[i];
}

VECTORIZE static void input_gradient(float *restrict out, const float *restrict g, const float *restrict normalized,
                                     float mean_g, float mean_product, float inverse, int n) {
  for (int i = 0; i < n; i++) out[i] = inverse * (g[i] - mean_g - normalized[i] * mean_product);
}

static void backward_row(const Normalize *job, int64_t row, double *weight_sums, double *bias_sums) {
  RowChunk chunk;
  double sum = 0, sum_product = 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    load_chunk(job, row, start, n, &chunk);
    if (weight_sums) add_products(weight_sums + start, chunk.dy, chunk.normalized, n);
    if (bias_sums) add_values(bias_sums + start, chunk.dy, n);
    if (!job->out.data) continue;
    if (job->mean) sum += sum_floats(chunk.grad, n);
    multiply_floats(chunk.buffer, chunk.grad, chunk.normalized, n);
    sum_product += sum_floats(chunk.buffer, n);
  }
  if (!job->out.data) return;
  double columns = (double)job->columns;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    if (job->columns > CHUNK) load_chunk(job, row, start, n, &chunk);
    input_gradient(chunk.buffer, chunk.grad, chunk.normalized, (float)(sum / columns), (float)(sum_product / columns),
                   job->inverse[row], n);
    int64_t first = row * job->columns + start;
    if (job->addend.data) add_floats(chunk.buffer, chunk.buffer, load(job->addend, first, n, chunk.dy_buffer), n);
    store_floats(job->out.dtype, job->out.data, first, n, chunk.buffer);
  }
}

static void backward_slices(int64_t begin, int64_t end, const void *context) {
  const Normalize *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    double *weight_sums = job->weight_sums ? job->weight_sums + slice * job->columns : NULL;
    double *bias_sums = job->bias_sums ? job->bias_sums + slice * job->columns : NULL;
    int64_t last = (slice + 1) * job->slice_rows;
    for (int64_t row = slice * job->slice_rows; row < last && row < job->rows; row++) {
      backward_row(job, row, weight_sums, bias_sums);
    }
  }
}

/* Adds the slices' sums up in their order. */
static void store_sums(Tensor *out, double *sums, int64_t slices) {
  if (!out) return;
  int64_t columns = tensor_count(out);
  for (int64_t slice = 1; slice < slices; slice++) {
    for (int64_t i = 0; i < columns; i++) sums[i] += sums[slice * columns + i];
  }
  float buffer[CHUNK];
  for (int64_t start = 0; start < columns; start += CHUNK) {
    int n = chunk_length(columns, start);
    for (int i = 0; i < n; i++) buffer[i] = (float)sums[start + i];
    store_floats(out->dtype, tensor_data(out), start, n, buffer);
  }
}

bool cpu_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward) {
  const Tensor *x = backward->x, *mean = backward->mean, *inverse = backward->inverse;
  enum { NORMALIZE_SLICES = 64 }; /* at most */
  Normalize job = {
      .out = values_of(gradients->x),
      .x = values_of(x),
      .dy = values_of(backward->dy),
      .addend = values_of(backward->addend),
      .weight = values_of(backward->weight),
      .mean = mean ? tensor_data(mean) : NULL,
      .inverse = tensor_data(inverse),
      .rows = rows_of(x),
      .columns = x->size[x->rank - 1],
  };
  job.slice_rows = divide_up(job.rows, NORMALIZE_SLICES);
  int64_t slices = job.rows > 0 ? divide_up(job.rows, job.slice_rows) : 1;
  size_t sums = (size_t)(slices * job.columns);
  size_t bytes = ((gradients->weight != NULL) + (gradients->bias != NULL)) * sums * sizeof(double);
  double *scratch = scratch_allocate(bytes);
  if (!scratch) return false;
  memset(scratch, 0, bytes);
  if (gradients->weight) job.weight_sums = scratch;
  if (gradients->bias) job.bias_sums = gradients->weight ? scratch + sums : scratch;
  parallel_for(job.rows > 0 ? slices : 0, job.slice_rows * 6 * job.columns, backward_slices, &job);
  store_sums(gradients->weight, job.weight_sums, slices);
  store_sums(gradients->bias, job.bias_sums, slices);
  scratch_release(scratch, bytes);
  return true;
}
