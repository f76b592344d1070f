/* x = x · factor, unless that is 1. */
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectors.h"

typedef struct Scaling {
  DType dtype;
  void *data;
  float factor;
} Scaling;

static void scale_chunks(int64_t begin, int64_t end, const void *context) {
  const Scaling *job = context;
  float buffer[CHUNK], out[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    scale_floats(out, load_floats(job->dtype, job->data, start, n, buffer), job->factor, n);
    store_floats(job->dtype, job->data, start, n, out);
  }
}

bool cpu_scale(Tensor *x, const Tensor *factor) {
  Scaling job = {x->dtype, tensor_data(x), *(const float *)tensor_data(factor)};
  if (job.factor != 1) parallel_chunks(tensor_count(x), 1, scale_chunks, &job);
  return true;
}
