/* The norm of gradients, and scaling them down to a largest one. */
#include <math.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/optim/sums.h"
#include "cpu/parallel.h"
#include "cpu/vectors.h"

typedef struct Gradient {
  void *data;
  DType dtype;
  int64_t count;
  ClipFactors factors;
} Gradient;

static Gradient gradient_of(const Tensor *grad) {
  return (Gradient){.data = tensor_data(grad), .dtype = grad->dtype, .count = tensor_count(grad)};
}

static double square_chunk(const void *context, int64_t start, int n) {
  const Gradient *job = context;
  float buffer[CHUNK];
  return squares_from(load_floats(job->dtype, job->data, start, n, buffer), 0, n);
}

static void scale_chunks(int64_t begin, int64_t end, const void *context) {
  const Gradient *job = context;
  float buffer[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    float *values = (float *)load_floats(job->dtype, job->data, start, n, buffer);
    if (job->factors.first != 1) scale_floats(values, values, job->factors.first, n);
    scale_floats(values, values, job->factors.second, n);
    store_floats(job->dtype, job->data, start, n, values);
  }
}

bool cpu_clip_norm(Tensor *norm, Tensor *const *list, int measured, int scaled, int count, float largest) {
  double total = 0;
  for (int i = 0; i < measured; i++) {
    Gradient job = gradient_of(list[i]);
    total += sum_chunks(job.count, square_chunk, &job);
  }
  *(float *)tensor_data(norm) = (float)sqrt(total);
  ClipFactors factors = clip_factors(sqrt(total), largest);
  if (isinf(largest) || factors.second >= 1.0f) return true;
  for (int i = scaled; i < count; i++) {
    Gradient job = gradient_of(list[i]);
    job.factors = factors;
    parallel_chunks(job.count, 1, scale_chunks, &job);
  }
  return true;
}
