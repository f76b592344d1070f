/* Batch normalization: of the channels of (images, channels, elements), whose elements lie in a run for each image. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/normalize/normalize.h"
#include "cpu/vectors.h"

/* Bytes of the next image that are fetched before it is its turn. */
enum { AHEAD = 8192 };

typedef struct Channels {
  Values out, x, dy, weight, bias, weight_grad, bias_grad;
  float *mean, *inverse, *variance; /* two, one and one a channel */
  double epsilon;
  int64_t images, channels, elements;
} Channels;

static Channels channels_of(const Tensor *x) {
  return (Channels){.x = values_of(x), .images = x->size[0], .channels = x->size[1], .elements = x->size[2]};
}

static double count_of(const Channels *job) { return (double)(job->images * job->elements); }

/* A part of a channel that lies side by side, from chunk to chunk: `first` is where it begins in the tensors. */
typedef struct Run {
  int64_t image, start, first;
  int n;
} Run;

static Run before_runs(void) { return (Run){.image = -1}; }

static int64_t place_of(const Channels *job, int64_t image, int64_t channel) {
  return (image * job->channels + channel) * job->elements;
}

static bool next_run(const Channels *job, int64_t channel, Run *run) {
  run->start += run->n;
  if (run->image < 0 || run->start == job->elements) {
    run->image++;
    run->start = 0;
  }
  run->first = place_of(job, run->image, channel) + run->start;
  run->n = chunk_length(job->elements, run->start);
  return run->image < job->images && job->elements > 0;
}

/* With the first run of an image, has the next image's fetched, which is too far away for the processor to foresee it. */
static void fetch_next(const Channels *job, Values values, int64_t channel, const Run *run) {
  if (run->start > 0 || run->image + 1 == job->images) return;
  int64_t element = (int64_t)dtype_size(values.dtype), bytes = job->elements * element;
  const char *next = (const char *)values.data + place_of(job, run->image + 1, channel) * element;
  fetch_ahead(next, bytes < AHEAD ? (int)bytes : AHEAD);
}

/* That of a channel, or what counts where there is none. */
static float parameter_of(Values values, int64_t channel, float missing) {
  float buffer[1];
  return values.data ? load(values, channel, 1, buffer)[0] : missing;
}

static RowMean kept_mean(const Channels *job, int64_t channel) {
  return (RowMean){job->mean[2 * channel], job->mean[2 * channel + 1]};
}

/* --- forward --- */

/* What a channel's elements go through. */
typedef struct Line {
  RowMean mean;
  float inverse, weight, bias;
} Line;

INLINED void standardize_elements(DType dtype, void *out, const void *x, const Line *line, int n) {
  const Line to = *line;
#pragma omp simd
  for (int i = 0; i < n; i++) {
    store_at(dtype, out, i, normalized_value(element_at(dtype, x, i), to.mean, to.inverse) * to.weight + to.bias);
  }
}

VECTORIZE static void standardize(DType dtype, void *out, const void *x, const Line *line, int n) {
  if (dtype == DTYPE_F32) {
    standardize_elements(DTYPE_F32, out, x, line, n);
  } else if (dtype == DTYPE_BF16) {
    standardize_elements(DTYPE_BF16, out, x, line, n);
  } else {
    standardize_elements(DTYPE_F16, out, x, line, n);
  }
}

/* The mean, and what is kept of a channel. */
static void take_statistics(const Channels *job, int64_t channel) {
  float buffer[CHUNK];
  double sum = 0, squares = 0, count = count_of(job);
  for (Run run = before_runs(); next_run(job, channel, &run);) {
    fetch_next(job, job->x, channel, &run);
    sum += sum_floats(load(job->x, run.first, run.n, buffer), run.n);
  }
  double exact = sum / count;
  for (Run run = before_runs(); next_run(job, channel, &run);) {
    squares += squares_from(load(job->x, run.first, run.n, buffer), exact, run.n);
  }
  RowMean mean = row_mean_of(exact);
  memcpy(&job->mean[2 * channel], &mean, sizeof mean);
  job->variance[channel] = (float)(squares / count);
  job->inverse[channel] = (float)(1 / sqrt(squares / count + job->epsilon));
}

static void normalize_channels(int64_t begin, int64_t end, const void *context) {
  const Channels *job = context;
  int64_t element = (int64_t)dtype_size(job->x.dtype);
  for (int64_t channel = begin; channel < end; channel++) {
    take_statistics(job, channel);
    Line line = {kept_mean(job, channel), job->inverse[channel], parameter_of(job->weight, channel, 1),
                 parameter_of(job->bias, channel, 0)};
    for (Run run = before_runs(); next_run(job, channel, &run);) {
      int64_t place = run.first * element;
      fetch_next(job, job->out, channel, &run);
      standardize(job->x.dtype, (char *)job->out.data + place, (const char *)job->x.data + place, &line, run.n);
    }
  }
}

bool cpu_normalize_channels(Tensor *out, Tensor *mean, Tensor *inverse, Tensor *variance,
                            const Normalization *normalization) {
  Channels job = channels_of(normalization->x);
  job.out = values_of(out);
  job.weight = values_of(normalization->weight);
  job.bias = values_of(normalization->bias);
  job.mean = tensor_data(mean);
  job.inverse = tensor_data(inverse);
  job.variance = tensor_data(variance);
  job.epsilon = normalization->epsilon;
  parallel_for(job.channels, 4 * job.images * job.elements, normalize_channels, &job);
  return true;
}

/* --- backward --- */

/* Σ dy and Σ dy · n, where n is x normalized. */
typedef struct GradientSums {
  double dy, product;
} GradientSums;

VECTORIZE static void add_gradient_sums(GradientSums *sums, const float *restrict dy, const float *restrict x,
                                        RowMean mean, float inverse, int n) {
  enum { LANES = 32 }; /* so that this is a loop over vectors */
  double of_dy[LANES] = {0}, of_product[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      of_dy[j] += (double)dy[i + j];
      of_product[j] += (double)(dy[i + j] * normalized_value(x[i + j], mean, inverse));
    }
  }
  for (int j = 0; i < n; i++, j++) {
    of_dy[j] += (double)dy[i];
    of_product[j] += (double)(dy[i] * normalized_value(x[i], mean, inverse));
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) {
      of_dy[j] += of_dy[j + width];
      of_product[j] += of_product[j + width];
    }
  }
  sums->dy += of_dy[0];
  sums->product += of_product[0];
}

VECTORIZE static void input_gradient(float *restrict out, const float *restrict dy, const float *restrict x,
                                     RowMean mean, float inverse, float mean_dy, float mean_product, float factor,
                                     int n) {
  for (int i = 0; i < n; i++) {
    out[i] = factor * (dy[i] - mean_dy - normalized_value(x[i], mean, inverse) * mean_product);
  }
}

static void store_one(Values values, int64_t channel, double value) {
  float rounded[1] = {(float)value};
  if (values.data) store_floats(values.dtype, values.data, channel, 1, rounded);
}

static void differentiate_channels(int64_t begin, int64_t end, const void *context) {
  const Channels *job = context;
  float x_buffer[CHUNK], dy_buffer[CHUNK], buffer[CHUNK];
  for (int64_t channel = begin; channel < end; channel++) {
    RowMean mean = kept_mean(job, channel);
    float inverse = job->inverse[channel], factor = inverse * parameter_of(job->weight, channel, 1);
    GradientSums sums = {0};
    for (Run run = before_runs(); next_run(job, channel, &run);) {
      fetch_next(job, job->dy, channel, &run);
      fetch_next(job, job->x, channel, &run);
      add_gradient_sums(&sums, load(job->dy, run.first, run.n, dy_buffer), load(job->x, run.first, run.n, x_buffer),
                        mean, inverse, run.n);
    }
    store_one(job->weight_grad, channel, sums.product);
    store_one(job->bias_grad, channel, sums.dy);
    if (!job->out.data) continue;
    float mean_dy = (float)(sums.dy / count_of(job)), mean_product = (float)(sums.product / count_of(job));
    for (Run run = before_runs(); next_run(job, channel, &run);) {
      fetch_next(job, job->out, channel, &run);
      float *out = job->out.dtype == DTYPE_F32 ? (float *)job->out.data + run.first : buffer;
      input_gradient(out, load(job->dy, run.first, run.n, dy_buffer), load(job->x, run.first, run.n, x_buffer), mean,
                     inverse, mean_dy, mean_product, factor, run.n);
      store_floats(job->out.dtype, job->out.data, run.first, run.n, out);
    }
  }
}

bool cpu_normalize_channels_backward(const NormalizeGradients *gradients, const NormalizeBackward *backward) {
  Channels job = channels_of(backward->x);
  job.out = values_of(gradients->x);
  job.weight_grad = values_of(gradients->weight);
  job.bias_grad = values_of(gradients->bias);
  job.dy = values_of(backward->dy);
  job.weight = values_of(backward->weight);
  job.mean = tensor_data(backward->mean);
  job.inverse = tensor_data(backward->inverse);
  parallel_for(job.channels, 8 * job.images * job.elements, differentiate_channels, &job);
  return true;
}
