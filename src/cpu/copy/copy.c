/* Copies between any two layouts and dtypes. */
#include <string.h>

#include "cpu/copy/transpose.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"

typedef struct Copy {
  Stream out, src;
  bool saturate;
} Copy;

static bool is_one_run(const Stream *stream) {
  return stream->rank == 1 && stream->stride[0] == dtype_size(stream->dtype);
}

static void copy_run(int64_t begin, int64_t end, const void *context) {
  const Copy *job = context;
  int64_t element = dtype_size(job->out.dtype);
  memcpy(job->out.data + begin * element, job->src.data + begin * element, (size_t)((end - begin) * element));
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
  Copy job = {stream_of(out), stream_of(src), saturate};
  ParallelBody body = copy_floats;
  if (out->dtype == src->dtype) {
    body = is_one_run(&job.out) && is_one_run(&job.src) ? copy_run : copy_bytes;
  } else if (!dtype_is_float(out->dtype) && !dtype_is_float(src->dtype)) {
    body = copy_integers;
  }
  parallel_chunks(job.out.count, 1, body, &job);
  return true;
}
