/* Copies between any two layouts and dtypes. */
#include <string.h>

#include "cpu/copy/transpose.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"

typedef struct Copy {
  Stream out, src;
  int64_t run; /* elements that are neighbours on both sides, for copy_runs */
  bool saturate;
} Copy;

/* Neighbours in memory from the start of every so many elements on; 0 where that is too few for a call of memcpy. */
static int64_t run_of(const Stream *out, const Stream *src) {
  enum { LEAST_BYTES = 256 };
  int64_t element = dtype_size(out->dtype), a = out->size[out->rank - 1], b = src->size[src->rank - 1];
  int64_t run = a < b ? a : b;
  bool contiguous = out->stride[out->rank - 1] == element && src->stride[src->rank - 1] == element;
  return contiguous && run * element >= LEAST_BYTES && a % run == 0 && b % run == 0 ? run : 0;
}

/* A single run is cut in pieces, which tasks take many of at once. */
static void copy_runs(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  int64_t element = dtype_size(job->out.dtype);
  if (job->run == job->out.count) {
    int64_t first = begin * CHUNK, last = end * CHUNK < job->run ? end * CHUNK : job->run;
    memcpy(job->out.data + first * element, job->src.data + first * element, (size_t)((last - first) * element));
    return;
  }
  for (int64_t start = begin * job->run; start < end * job->run; start += job->run) {
    memcpy(stream_address(&job->out, start), stream_address(&job->src, start), (size_t)(job->run * element));
  }
}

static void copy_bytes(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk chunk;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    void *direct = stream_direct(&job->out, start, n);
    stream_write(&job->out, start, n, stream_read(&job->src, start, n, direct ? direct : chunk.raw));
  }
}

static void copy_integers(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk out, src;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    stream_store_integers(&job->out, start, n, stream_integers(&job->src, start, n, &src), &out);
  }
}

static void copy_floats(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  Chunk out, src;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const float *values = stream_floats(&job->src, start, n, &src);
    if (dtype_is_float8(job->out.dtype) && !job->saturate) {
      store_floats_unsaturated(job->out.dtype, out.raw, 0, n, values);
      stream_write(&job->out, start, n, out.raw);
    } else {
      stream_store_floats(&job->out, start, n, values, &out);
    }
  }
}

bool cpu_copy(Tensor *out, const Tensor *src, bool saturate) {
  if (out->dtype == src->dtype && transpose_copy(out, src)) return true;
  Copy job = {.out = stream_of(out), .src = stream_of(src), .saturate = saturate};
  ParallelBody body = copy_floats;
  if (out->dtype == src->dtype) {
    job.run = run_of(&job.out, &job.src);
    if (job.run > 0) {
      bool single = job.run == job.out.count;
      parallel_for(single ? divide_up(job.run, CHUNK) : job.out.count / job.run, single ? CHUNK : job.run, copy_runs,
                   &job);
      return true;
    }
    body = copy_bytes;
  } else if (!dtype_is_float(out->dtype) && !dtype_is_float(src->dtype)) {
    body = copy_integers;
  }
  parallel_chunks(job.out.count, 1, body, &job);
  return true;
}
