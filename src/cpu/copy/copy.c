/* copy, fill and arange. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"
#include "cpu/copy/transpose.h"

typedef struct Copy {
  Stream out, src;
  bool saturate;
} Copy;

static void copy_bytes(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk chunk;
  for (int64_t start = begin * CHUNK; start < job->out.count && start < end * CHUNK; start += CHUNK) {
    int n = job->out.count - start < CHUNK ? (int)(job->out.count - start) : CHUNK;
    void *direct = stream_direct(&job->out, start, n);
    stream_write(&job->out, start, n, stream_read(&job->src, start, n, direct ? direct : chunk.raw));
  }
}

static void copy_integers(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk out, src;
  for (int64_t start = begin * CHUNK; start < job->out.count && start < end * CHUNK; start += CHUNK) {
    int n = job->out.count - start < CHUNK ? (int)(job->out.count - start) : CHUNK;
    stream_store_integers(&job->out, start, n, stream_integers(&job->src, start, n, &src), &out);
  }
}

static void copy_floats(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk out, src;
  bool unsaturated = dtype_is_float8(job->out.dtype) && !job->saturate;
  for (int64_t start = begin * CHUNK; start < job->out.count && start < end * CHUNK; start += CHUNK) {
    int n = job->out.count - start < CHUNK ? (int)(job->out.count - start) : CHUNK;
    const float *values = stream_floats(&job->src, start, n, &src);
    if (unsaturated) {
      store_floats_unsaturated(job->out.dtype, out.raw, 0, n, values);
      stream_write(&job->out, start, n, out.raw);
    } else {
      stream_store_floats(&job->out, start, n, values, &out);
    }
  }
}

bool cpu_copy(Tensor *out, const Tensor *src, bool saturate) {
  if (out->dtype == src->dtype && transpose_copy(out, src)) return true;
  Copy job = {stream_of(out), stream_of(src), saturate};
  ParallelBody body = copy_floats;
  if (out->dtype == src->dtype) {
    body = copy_bytes;
  } else if (!dtype_is_float(out->dtype) && !dtype_is_float(src->dtype)) {
    body = copy_integers;
  }
  parallel_for((job.out.count + CHUNK - 1) / CHUNK, CHUNK, body, &job);
  return true;
}

typedef struct Fill {
  Stream out;
  unsigned char values[CHUNK * sizeof(int64_t)]; /* one chunk of the number, converted */
} Fill;

static void fill_chunks(int64_t begin, int64_t end, const void *context) {
  const Fill *job = context;
  for (int64_t start = begin * CHUNK; start < job->out.count && start < end * CHUNK; start += CHUNK) {
    int n = job->out.count - start < CHUNK ? (int)(job->out.count - start) : CHUNK;
    stream_write(&job->out, start, n, job->values);
  }
}

bool cpu_fill(Tensor *out, double number) {
  Fill job; /* 4 KiB, of which small tensors need little: not worth clearing */
  job.out = stream_of(out);
  size_t element = dtype_size(out->dtype);
  size_t bytes = element * (size_t)(job.out.count < CHUNK ? job.out.count : CHUNK);
  if (bytes == 0) return true;
  store_number(out->dtype, job.values, number);
  for (size_t filled = element; filled < bytes; filled *= 2) {
    memcpy(job.values + filled, job.values, filled < bytes - filled ? filled : bytes - filled);
  }
  parallel_for((job.out.count + CHUNK - 1) / CHUNK, CHUNK, fill_chunks, &job);
  return true;
}

bool cpu_arange(Tensor *out, double start, double step) {
  char *data = tensor_data(out);
  int64_t count = tensor_count(out);
  size_t element = dtype_size(out->dtype);
  /* Doubles above 2^53 have gaps; integers in 64 bits do not. */
  bool integral = !dtype_is_float(out->dtype) && start == floor(start) && step == floor(step);
  uint64_t first = (uint64_t)integer_from_double(start), increment = (uint64_t)integer_from_double(step);
  for (int64_t i = 0; i < count; i++) {
    if (integral) {
      int64_t value = (int64_t)(first + (uint64_t)i * increment);
      store_integers(out->dtype, data + (size_t)i * element, 0, 1, &value);
    } else {
      store_number(out->dtype, data + (size_t)i * element, start + (double)i * step);
    }
  }
  return true;
}
