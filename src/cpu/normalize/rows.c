/* Layer and root mean square normalization of rows. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/normalize/normalize.h"
#include "cpu/vectors.h"

typedef struct Normalize {
  Values out, x, dy, weight, bias, addend;
  float *mean, *inverse; /* two and one a row (backend.h); mean may be NULL */
  float epsilon;
  int64_t rows, columns;
  bool is_fetched; /* ahead of its turn (vectors.h) */
  /* backward: the rows are cut into slices, by the shape alone, each with sums of its own */
  int64_t slice_rows;
  double *weight_sums, *bias_sums; /* (slices, columns) */
} Normalize;

/* Elements of a large tensor whose turn comes soon. */
static void fetch(const Normalize *job, Values values, int64_t start, int n) {
  if (job->is_fetched) fetch_elements(values.dtype, values.data, start, n);
}

static int64_t rows_of(const Tensor *x) { return tensor_count(x) / x->size[x->rank - 1]; }

/* --- forward --- */

/* Elements start … start + n - 1 of x, and has those after them fetched. */
static const float *load_next(const Normalize *job, Values values, int64_t start, int n, float *buffer) {
  fetch(job, values, start + n, n);
  return load(values, start, n, buffer);
}

static double row_mean(const Normalize *job, int64_t first) {
  float buffer[CHUNK];
  double sum = 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    sum += sum_floats(load_next(job, job->x, first + start, n, buffer), n);
  }
  return sum / (double)job->columns;
}

static float inverse_of(const Normalize *job, double squares) {
  return (float)(1 / sqrt(squares / (double)job->columns + (double)job->epsilon));
}

static float row_inverse(const Normalize *job, int64_t first, double mean) {
  float buffer[CHUNK];
  double sum = 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    sum += squares_from(load_next(job, job->x, first + start, n, buffer), mean, n);
  }
  return inverse_of(job, sum);
}

static RowMean kept_mean(const Normalize *job, int64_t row) {
  return job->mean ? (RowMean){job->mean[2 * row], job->mean[2 * row + 1]} : (RowMean){0};
}

/* A chunk of a row on its way; weight and bias may be NULL. */
typedef struct Part {
  const float *x, *weight, *bias;
  RowMean mean;
  float inverse;
} Part;

INLINED void finish_elements(DType dtype, bool weighted, bool biased, void *out, const Part *part, int n) {
  const Part from = *part;
#pragma omp simd
  for (int i = 0; i < n; i++) {
    float value = normalized_value(from.x[i], from.mean, from.inverse);
    if (weighted) value *= from.weight[i];
    if (biased) value += from.bias[i];
    store_at(dtype, out, i, value);
  }
}

INLINED void finish_of(DType dtype, void *out, const Part *part, int n) {
  if (part->weight && part->bias) {
    finish_elements(dtype, true, true, out, part, n);
  } else if (part->weight) {
    finish_elements(dtype, true, false, out, part, n);
  } else if (part->bias) {
    finish_elements(dtype, false, true, out, part, n);
  } else {
    finish_elements(dtype, false, false, out, part, n);
  }
}

VECTORIZE static void finish_floats(void *out, const Part *part, int n) { finish_of(DTYPE_F32, out, part, n); }
VECTORIZE static void finish_bf16(void *out, const Part *part, int n) { finish_of(DTYPE_BF16, out, part, n); }
VECTORIZE static void finish_f16(void *out, const Part *part, int n) { finish_of(DTYPE_F16, out, part, n); }

static void finish_part(const Normalize *job, int64_t first, const Part *part, int n) {
  DType dtype = job->out.dtype;
  void *out = (char *)job->out.data + first * dtype_size(dtype);
  fetch(job, job->out, first + n, n);
  if (dtype == DTYPE_F32) {
    finish_floats(out, part, n);
  } else if (dtype == DTYPE_BF16) {
    finish_bf16(out, part, n);
  } else {
    finish_f16(out, part, n);
  }
}

static RowMean keep(const Normalize *job, int64_t row, double exact, float inverse) {
  RowMean mean = row_mean_of(exact);
  if (job->mean) memcpy(&job->mean[2 * row], &mean, sizeof mean);
  job->inverse[row] = inverse;
  return mean;
}

/* Of at most HELD elements, which are converted once. */
enum { HELD = 8192 };

static void normalize_held_rows(const Normalize *job, int64_t begin, int64_t end) {
  _Alignas(64) float buffer[HELD], weight_buffer[HELD], bias_buffer[HELD];
  int n = (int)job->columns;
  const float *weight = job->weight.data ? load(job->weight, 0, n, weight_buffer) : NULL;
  const float *bias = job->bias.data ? load(job->bias, 0, n, bias_buffer) : NULL;
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * n;
    const float *x = load(job->x, first, n, buffer);
    double exact = job->mean ? sum_floats(x, n) / n : 0;
    float inverse = inverse_of(job, squares_from(x, exact, n));
    RowMean mean = keep(job, row, exact, inverse);
    for (int start = 0; start < n; start += CHUNK) {
      int length = chunk_length(n, start);
      fetch(job, job->x, first + n + start, length);
      Part part = {x + start, weight ? weight + start : NULL, bias ? bias + start : NULL, mean, inverse};
      finish_part(job, first + start, &part, length);
    }
  }
}

static void normalize_rows(int64_t begin, int64_t end, const void *context) {
  const Normalize *job = context;
  if (job->columns <= HELD) {
    normalize_held_rows(job, begin, end);
    return;
  }
  _Alignas(64) float buffer[CHUNK], weight_buffer[CHUNK], bias_buffer[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->columns;
    double exact = job->mean ? row_mean(job, first) : 0;
    float inverse = row_inverse(job, first, exact);
    RowMean mean = keep(job, row, exact, inverse);
    for (int64_t start = 0; start < job->columns; start += CHUNK) {
      int n = chunk_length(job->columns, start);
      const float *weight = job->weight.data ? load(job->weight, start, n, weight_buffer) : NULL;
      const float *bias = job->bias.data ? load(job->bias, start, n, bias_buffer) : NULL;
      Part part = {load(job->x, first + start, n, buffer), weight, bias, mean, inverse};
      finish_part(job, first + start, &part, n);
    }
  }
}

bool cpu_normalize(Tensor *out, Tensor *mean, Tensor *inverse, const Normalization *normalization) {
  const Tensor *x = normalization->sum ? normalization->sum : normalization->x;
  Operand first = {.tensor = normalization->x}, second = {.tensor = normalization->addend};
  if (normalization->sum && !cpu_binary(BINARY_ADD, normalization->sum, first, second)) return false;
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
      .is_fetched = is_fetched(tensor_count(x) * dtype_size(x->dtype)),
  };
  parallel_for(job.rows, 4 * job.columns, normalize_rows, &job);
  return true;
}

/* --- backward --- */

VECTORIZE static void standardize(float *restrict out, const float *restrict x, RowMean mean, float inverse, int n) {
  for (int i = 0; i < n; i++) out[i] = normalized_value(x[i], mean, inverse);
}

/* normalized = (x - mean) · inverse, grad = dy · weight */
VECTORIZE static void prepare_weighted(float *restrict normalized, float *restrict grad, const float *restrict x,
                                       const float *restrict dy, const float *restrict weight, RowMean mean,
                                       float inverse, int n) {
  for (int i = 0; i < n; i++) {
    normalized[i] = normalized_value(x[i], mean, inverse);
    grad[i] = dy[i] * weight[i];
  }
}

/* A chunk of a row: n = (x - mean) · inverse, and g = dy · weight, which is dy itself without a weight. */
typedef struct RowChunk {
  _Alignas(64) float normalized[CHUNK], weighted[CHUNK], dy_buffer[CHUNK], buffer[CHUNK], weight_buffer[CHUNK];
  const float *dy, *grad;
  const float *weight; /* NULL without one; of rows of one chunk it is loaded once */
} RowChunk;

static void load_weight(const Normalize *job, int64_t start, int n, RowChunk *chunk) {
  chunk->weight = job->weight.data ? load(job->weight, start, n, chunk->weight_buffer) : NULL;
}

static void load_chunk(const Normalize *job, int64_t row, int64_t start, int n, RowChunk *chunk) {
  int64_t first = row * job->columns + start;
  const float *x = load_next(job, job->x, first, n, chunk->buffer);
  RowMean mean = kept_mean(job, row);
  float inverse = job->inverse[row];
  if (job->columns > CHUNK) load_weight(job, start, n, chunk);
  chunk->dy = chunk->grad = load_next(job, job->dy, first, n, chunk->dy_buffer);
  if (!chunk->weight) {
    standardize(chunk->normalized, x, mean, inverse, n);
  } else {
    prepare_weighted(chunk->normalized, chunk->weighted, x, chunk->dy, chunk->weight, mean, inverse, n);
    chunk->grad = chunk->weighted;
  }
}

VECTORIZE static void add_products(double *restrict sum, const float *restrict a, const float *restrict b, int n) {
  for (int i = 0; i < n; i++) sum[i] += (double)(a[i] * b[i]);
}

VECTORIZE static void add_values(double *restrict sum, const float *restrict a, int n) {
  for (int i = 0; i < n; i++) sum[i] += (double)a[i];
}

/* Σ g and Σ g · n */
typedef struct GradientSums {
  double grad, product;
} GradientSums;

VECTORIZE static void add_gradient_sums(GradientSums *sums, const float *restrict grad,
                                        const float *restrict normalized, int n) {
  enum { LANES = 32 }; /* so that this is a loop over vectors */
  double of_grad[LANES] = {0}, of_product[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      of_grad[j] += (double)grad[i + j];
      of_product[j] += (double)(grad[i + j] * normalized[i + j]);
    }
  }
  for (; i < n; i++) {
    of_grad[0] += (double)grad[i];
    of_product[0] += (double)(grad[i] * normalized[i]);
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) {
      of_grad[j] += of_grad[j + width];
      of_product[j] += of_product[j + width];
    }
  }
  sums->grad += of_grad[0];
  sums->product += of_product[0];
}

VECTORIZE static void input_gradient(float *restrict out, const float *restrict g, const float *restrict normalized,
                                     float mean_g, float mean_product, float inverse, int n) {
  for (int i = 0; i < n; i++) out[i] = inverse * (g[i] - mean_g - normalized[i] * mean_product);
}

static void backward_row(const Normalize *job, int64_t row, double *weight_sums, double *bias_sums, RowChunk *chunk) {
  GradientSums sums = {0};
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    load_chunk(job, row, start, n, chunk);
    if (weight_sums) add_products(weight_sums + start, chunk->dy, chunk->normalized, n);
    if (bias_sums) add_values(bias_sums + start, chunk->dy, n);
    if (job->out.data) add_gradient_sums(&sums, chunk->grad, chunk->normalized, n);
  }
  if (!job->out.data) return;
  double columns = (double)job->columns;
  float mean_grad = job->mean ? (float)(sums.grad / columns) : 0;
  for (int64_t start = 0; start < job->columns; start += CHUNK) {
    int n = chunk_length(job->columns, start);
    if (job->columns > CHUNK) load_chunk(job, row, start, n, chunk);
    input_gradient(chunk->buffer, chunk->grad, chunk->normalized, mean_grad, (float)(sums.product / columns),
                   job->inverse[row], n);
    int64_t first = row * job->columns + start;
    if (job->addend.data) {
      add_floats(chunk->buffer, chunk->buffer, load_next(job, job->addend, first, n, chunk->dy_buffer), n);
    }
    fetch(job, job->out, first + n, n);
    store_floats(job->out.dtype, job->out.data, first, n, chunk->buffer);
  }
}

static void backward_slices(int64_t begin, int64_t end, const void *context) {
  const Normalize *job = context;
  RowChunk chunk;
  if (job->columns <= CHUNK) load_weight(job, 0, (int)job->columns, &chunk);
  for (int64_t slice = begin; slice < end; slice++) {
    double *weight_sums = job->weight_sums ? job->weight_sums + slice * job->columns : NULL;
    double *bias_sums = job->bias_sums ? job->bias_sums + slice * job->columns : NULL;
    int64_t last = (slice + 1) * job->slice_rows;
    for (int64_t row = slice * job->slice_rows; row < last && row < job->rows; row++) {
      backward_row(job, row, weight_sums, bias_sums, &chunk);
    }
  }
}

VECTORIZE static void add_sums(double *restrict sum, const double *restrict x, int64_t n) {
  for (int64_t i = 0; i < n; i++) sum[i] += x[i];
}

/* Adds the slices' sums up in their order. */
static void store_sums(Tensor *out, double *sums, int64_t slices) {
  if (!out) return;
  int64_t columns = tensor_count(out);
  for (int64_t slice = 1; slice < slices; slice++) add_sums(sums, sums + slice * columns, columns);
  float buffer[CHUNK];
  for (int64_t start = 0; start < columns; start += CHUNK) {
    int n = chunk_length(columns, start);
    for (int i = 0; i < n; i++) buffer[i] = (float)sums[start + i];
    store_floats(out->dtype, tensor_data(out), start, n, buffer);
  }
}

bool cpu_normalize_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward) {
  const Tensor *x = backward->x, *mean = backward->mean, *inverse = backward->inverse;
  enum { SLICES_MOST = 64, SLICE_ROWS_LEAST = 32 };
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
      .is_fetched = is_fetched(tensor_count(x) * dtype_size(x->dtype)),
  };
  job.slice_rows = divide_up(job.rows, SLICES_MOST);
  if (job.slice_rows < SLICE_ROWS_LEAST) job.slice_rows = SLICE_ROWS_LEAST;
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
