/* Reading and adding to rows that an index tensor names. */
#include "cpu/index/index.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

bool check_range(const Tensor *index, int64_t limit, const char *what, const char *things) {
  int64_t count = tensor_count(index);
  int64_t buffer[CHUNK];
  for (int64_t start = 0; start < count; start += CHUNK) {
    int n = chunk_length(count, start);
    const int64_t *values = load_integers(index->dtype, tensor_data(index), start, n, buffer);
    for (int i = 0; i < n; i++) {
      if (values[i] >= 0 && values[i] < limit) continue;
      return error_set("%s %lld is out of range: there are %lld %s", what, (long long)values[i], (long long)limit,
                       things);
    }
  }
  return true;
}

/* The indexed tensor has shape (outer, n, inner), the other one, and for gather the index, (outer, m, inner). */
typedef struct Indexing {
  char *out;
  const char *x;
  const void *index;
  DType x_dtype, index_dtype;
  size_t element; /* bytes of one element of x */
  int64_t n, m, inner;
  int64_t strips; /* ranges of `inner` that tasks take one of */
  int64_t strip;  /* length of such a range */
} Indexing;

static int64_t index_at(const Indexing *job, int64_t position) {
  int64_t buffer;
  return *load_integers(job->index_dtype, job->index, position, 1, &buffer);
}

/* Tasks are (outer, j). */
static void select_rows(int64_t begin, int64_t end, const void *context) {
  const Indexing *job = context;
  size_t bytes = (size_t)job->inner * job->element;
  for (int64_t task = begin; task < end; task++) {
    int64_t row = task / job->m * job->n + index_at(job, task % job->m);
    memcpy(job->out + (size_t)task * bytes, job->x + (size_t)row * bytes, bytes);
  }
}

/* What index_select and gather share: elements of x go to out. */
static Indexing picking(Tensor *out, const Tensor *x, const Tensor *index) {
  return (Indexing){
      .out = tensor_data(out),
      .x = tensor_data(x),
      .index = tensor_data(index),
      .index_dtype = index->dtype,
      .element = dtype_size(x->dtype),
      .n = x->size[1],
      .m = out->size[1],
      .inner = x->size[2],
  };
}

bool cpu_index_select(Tensor *out, const Tensor *x, const Tensor *index) {
  if (!check_range(index, x->size[1], "index", "rows")) return false;
  if (tensor_count(out) == 0) return true;
  Indexing job = picking(out, x, index);
  parallel_for(x->size[0] * job.m, job.inner, select_rows, &job);
  return true;
}

/* Tasks are (outer, strip of inner): rows are added in order by one thread, so that repeated indices do not race and
 * the sum does not depend on the number of threads. */
static void add_rows(int64_t begin, int64_t end, const void *context) {
  const Indexing *job = context;
  float buffer[CHUNK];
  for (int64_t task = begin; task < end; task++) {
    int64_t outer = task / job->strips, first = task % job->strips * job->strip;
    int n = (int)(job->inner - first < job->strip ? job->inner - first : job->strip);
    for (int64_t j = 0; j < job->m; j++) {
      int64_t row = outer * job->n + index_at(job, j);
      float *out = (float *)job->out + row * job->inner + first;
      add_floats(out, out, load_floats(job->x_dtype, job->x, (outer * job->m + j) * job->inner + first, n, buffer), n);
    }
  }
}

static Indexing adding(Tensor *out, const Tensor *x, const Tensor *index) {
  Indexing job = {.out = tensor_data(out),
                  .x = tensor_data(x),
                  .index = tensor_data(index),
                  .x_dtype = x->dtype,
                  .index_dtype = index->dtype,
                  .n = out->size[1],
                  .m = x->size[1],
                  .inner = x->size[2]};
  job.strip = x->size[0] > 1 ? CHUNK : 64; /* one cache line or more of float32, so that threads share none */
  if (job.strip > job.inner) job.strip = job.inner;
  job.strips = job.strip > 0 ? divide_up(job.inner, job.strip) : 0;
  return job;
}

bool cpu_index_add(Tensor *out, const Tensor *x, const Tensor *index) {
  if (!check_range(index, out->size[1], "index", "rows")) return false;
  int64_t count = tensor_count(out);
  size_t bytes = (size_t)count * sizeof(float);
  bool direct = out->dtype == DTYPE_F32;
  float *sums = direct ? tensor_data(out) : scratch_allocate(bytes);
  if (!sums && bytes > 0) return false;
  if (bytes > 0) memset(sums, 0, bytes);
  Indexing job = adding(out, x, index);
  job.out = (char *)sums;
  parallel_for(x->size[0] * job.strips, job.m * job.strip, add_rows, &job);
  if (direct) return true;
  convert_all(out->dtype, tensor_data(out), DTYPE_F32, sums, count);
  scratch_release(sums, bytes);
  return true;
}

/* --- gather --- */

/* out[i] = x[index[i] · stride + i], elements of so many bytes. */
static void pick(void *out, const void *x, const int64_t *index, int64_t stride, int n, size_t element) {
  switch (element) {
  case 1:
    for (int i = 0; i < n; i++) ((uint8_t *)out)[i] = ((const uint8_t *)x)[index[i] * stride + i];
    return;
  case 2:
    for (int i = 0; i < n; i++) ((uint16_t *)out)[i] = ((const uint16_t *)x)[index[i] * stride + i];
    return;
  case 4:
    for (int i = 0; i < n; i++) ((uint32_t *)out)[i] = ((const uint32_t *)x)[index[i] * stride + i];
    return;
  case 8:
    for (int i = 0; i < n; i++) ((uint64_t *)out)[i] = ((const uint64_t *)x)[index[i] * stride + i];
    return;
  }
  trap_missing_case();
}

/* Tasks are (outer, j). */
static void gather_rows(int64_t begin, int64_t end, const void *context) {
  const Indexing *job = context;
  int64_t element = (int64_t)job->element, buffer[CHUNK];
  for (int64_t task = begin; task < end; task++) {
    const char *x = job->x + task / job->m * job->n * job->inner * element;
    for (int64_t start = 0; start < job->inner; start += CHUNK) {
      int n = chunk_length(job->inner, start);
      int64_t position = task * job->inner + start;
      const int64_t *index = load_integers(job->index_dtype, job->index, position, n, buffer);
      pick(job->out + position * element, x + start * element, index, job->inner, n, job->element);
    }
  }
}

bool cpu_gather(Tensor *out, const Tensor *x, const Tensor *index) {
  if (!check_range(index, x->size[1], "index", "rows")) return false;
  if (tensor_count(out) == 0) return true;
  Indexing job = picking(out, x, index);
  parallel_for(out->size[0] * job.m, job.inner * 2, gather_rows, &job);
  return true;
}
