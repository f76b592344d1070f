/* Tensors filled with a number, or counted up. */
#include <string.h>

#include "core/arange.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"

typedef struct Fill {
  Stream out;
  unsigned char values[CHUNK * sizeof(int64_t)]; /* one chunk of the number, converted */
} Fill;

static void fill_chunks(int64_t begin, int64_t end, const void *context) {
  const Fill *job = context;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    stream_write(&job->out, start, n, job->values);
  }
}

bool cpu_fill(Tensor *out, Number number) {
  Fill job; /* 4 KiB, of which small tensors need little: not worth clearing */
  job.out = stream_of(out);
  size_t element = (size_t)dtype_size(out->dtype);
  size_t bytes = element * (size_t)chunk_length(job.out.count, 0);
  if (bytes == 0) return true;
  element_store(out->dtype, job.values, number);
  for (size_t filled = element; filled < bytes; filled *= 2) {
    memcpy(job.values + filled, job.values, filled < bytes - filled ? filled : bytes - filled);
  }
  parallel_chunks(job.out.count, 1, fill_chunks, &job);
  return true;
}

typedef struct Arange {
  DType dtype;
  void *out;
  ArangeRule rule;
} Arange;

static void count_floats(int64_t begin, int64_t end, const void *context) {
  const Arange *job = context;
  float values[CHUNK];
  for (int64_t first = begin; first < end; first += CHUNK) {
    int n = chunk_length(end, first);
    for (int i = 0; i < n; i++) {
      values[i] = float_to_narrow(job->dtype, arange_number(job->rule, first + i));
    }
    store_floats(job->dtype, job->out, first, n, values);
  }
}

static void count_integers(int64_t begin, int64_t end, const void *context) {
  const Arange *job = context;
  int64_t values[CHUNK];
  for (int64_t first = begin; first < end; first += CHUNK) {
    int n = chunk_length(end, first);
    for (int i = 0; i < n; i++) values[i] = arange_integer(job->rule, first + i);
    store_integers(job->dtype, job->out, first, n, values);
  }
}

bool cpu_arange(Tensor *out, Number start, Number step) {
  Arange job = {out->dtype, tensor_data(out), arange_rule(start, step)};
  parallel_chunks(tensor_count(out), 1, dtype_is_integer(out->dtype) ? count_integers : count_floats, &job);
  return true;
}
