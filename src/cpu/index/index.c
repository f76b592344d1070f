/* Reading and adding to rows that an index tensor names. */
#include "cpu/index/index.h"

#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

typedef struct RangeCheck {
  const void *index;
  DType dtype;
  int64_t count, limit;
  bool *wrong; /* is set if an index is out of range */
} RangeCheck;

/* A value, or what it leaves of the limit, has its sign bit set if the value is out of range. */
VECTORIZE static bool all_below(const int64_t *values, int64_t limit, int n) {
  uint64_t last = (uint64_t)limit - 1, bits = 0;
  for (int i = 0; i < n; i++) bits |= (uint64_t)values[i] | (last - (uint64_t)values[i]);
  return (int64_t)bits >= 0;
}

/* Tasks are chunks. */
static void look_for_wrong(int64_t begin, int64_t end, const void *context) {
  const RangeCheck *job = context;
  int64_t buffer[CHUNK];
  bool wrong = false;
  for (int64_t task = begin; task < end; task++) {
    int64_t start = task * CHUNK;
    int n = chunk_length(job->count, start);
    const int64_t *values = load_integers(job->dtype, job->index, start, n, buffer);
    wrong |= !all_below(values, job->limit, n);
  }
  if (wrong) __atomic_store_n(job->wrong, true, __ATOMIC_RELAXED);
}

bool check_range(const Tensor *index, int64_t limit, const char *what, const char *things) {
  int64_t count = tensor_count(index), value = 0;
  bool wrong = false;
  RangeCheck job = {tensor_data(index), index->dtype, count, limit, &wrong};
  parallel_for(divide_up(count, CHUNK), CHUNK, look_for_wrong, &job);
  if (!wrong) return true;
  for (int64_t i = 0; i < count; i++) {
    value = *load_integers(index->dtype, job.index, i, 1, &value);
    if (value < 0 || value >= limit) break;
  }
  return error_set("%s %lld is out of range: there are %lld %s", what, (long long)value, (long long)limit, things);
}

/* The indexed tensor has shape (outer, n, inner), the other one, and for gather the index, (outer, m, inner). */
typedef struct Indexing {
  char *out;
  const char *x;
  const void *index;
  DType x_dtype, out_dtype, index_dtype;
  size_t element; /* bytes of one element of x */
  int64_t n, m, inner;
  bool listed;    /* the index is (m), the same for all of outer */
  int64_t strips; /* ranges of STRIP columns, of inner, or chunks of m, that tasks take one of */
  /* Of 16-bit sums: rows order[begin[i]] … order[begin[i + 1] - 1] of x are added to row i. */
  int64_t *begin, *order;
} Indexing;

static int64_t index_at(const Indexing *job, int64_t position) {
  int64_t buffer;
  return *load_integers(job->index_dtype, job->index, position, 1, &buffer);
}

/* out[i] = x[index[i] · stride + i · step], elements of so many bytes. */
INLINED void pick(void *out, const void *x, const int64_t *index, int64_t stride, int step, int n, size_t element) {
  switch (element) {
  case 1:
    for (int i = 0; i < n; i++) ((uint8_t *)out)[i] = ((const uint8_t *)x)[index[i] * stride + i * step];
    return;
  case 2:
    for (int i = 0; i < n; i++) ((uint16_t *)out)[i] = ((const uint16_t *)x)[index[i] * stride + i * step];
    return;
  case 4:
    for (int i = 0; i < n; i++) ((uint32_t *)out)[i] = ((const uint32_t *)x)[index[i] * stride + i * step];
    return;
  case 8:
    for (int i = 0; i < n; i++) ((uint64_t *)out)[i] = ((const uint64_t *)x)[index[i] * stride + i * step];
    return;
  }
  trap_missing_case();
}

/* Where inner is 1: tasks are (outer, chunk of m). */
static void pick_elements(int64_t begin, int64_t end, const void *context) {
  const Indexing *job = context;
  int64_t buffer[CHUNK], element = (int64_t)job->element;
  for (int64_t task = begin; task < end; task++) {
    int64_t outer = task / job->strips, first = task % job->strips * CHUNK;
    int n = chunk_length(job->m, first);
    int64_t place = (job->listed ? 0 : outer * job->m) + first;
    const int64_t *index = load_integers(job->index_dtype, job->index, place, n, buffer);
    pick(job->out + (outer * job->m + first) * element, job->x + outer * job->n * element, index, 1, 0, n,
         job->element);
  }
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
      .listed = index->rank == 1,
      .strips = divide_up(out->size[1], CHUNK),
  };
}

static bool run_picks(const Tensor *x, const Indexing *job, ParallelBody body) {
  if (job->inner == 1) {
    parallel_for(x->size[0] * job->strips, job->m < CHUNK ? job->m * 2 : CHUNK * 2, pick_elements, job);
  } else {
    parallel_for(x->size[0] * job->m, job->inner * (job->listed ? 1 : 2), body, job);
  }
  return true;
}

bool cpu_index_select(Tensor *out, const Tensor *x, const Tensor *index) {
  if (!check_range(index, x->size[1], "index", "rows")) return false;
  if (tensor_count(out) == 0) return true;
  Indexing job = picking(out, x, index);
  return run_picks(x, &job, select_rows);
}

/* Columns first … last - 1 of all rows. */
static void add_columns(const Indexing *job, int64_t outer, int64_t first, int64_t last) {
  float buffer[CHUNK];
  for (int64_t j = 0; j < job->m; j++) {
    int64_t from = (outer * job->m + j) * job->inner, to = (outer * job->n + index_at(job, j)) * job->inner;
    for (int64_t column = first; column < last; column += CHUNK) {
      int n = chunk_length(last, column);
      float *out = (float *)job->out + to + column;
      add_floats(out, out, load_floats(job->x_dtype, job->x, from + column, n, buffer), n);
    }
  }
}

/* The same of f16 or bf16, a row of the result after the other, which is float32 for as long as something is added to it. */
static void add_narrow_columns(const Indexing *job, int64_t outer, int64_t first, int64_t last) {
  float buffer[CHUNK], sum[CHUNK];
  for (int64_t i = 0; i < job->n; i++) {
    if (job->begin[i] == job->begin[i + 1]) continue;
    for (int64_t column = first; column < last; column += CHUNK) {
      int n = chunk_length(last, column);
      int64_t to = (outer * job->n + i) * job->inner + column;
      load_floats(job->out_dtype, job->out, to, n, sum);
      for (int64_t k = job->begin[i]; k < job->begin[i + 1]; k++) {
        int64_t from = (outer * job->m + job->order[k]) * job->inner + column;
        add_floats(sum, sum, load_floats(job->x_dtype, job->x, from, n, buffer), n);
      }
      store_floats(job->out_dtype, job->out, to, n, sum);
    }
  }
}

/* Tasks are (outer, strip of inner), neighbouring strips are taken together: rows are added in order by one thread, so
 * that repeated indices do not race and the sum does not depend on the number of threads. */
static void add_rows(int64_t begin, int64_t end, const void *context) {
  const Indexing *job = context;
  for (int64_t task = begin; task < end;) {
    int64_t outer = task / job->strips, next = (outer + 1) * job->strips < end ? (outer + 1) * job->strips : end;
    int64_t first = (task - outer * job->strips) * STRIP, last = (next - outer * job->strips) * STRIP;
    (job->begin ? add_narrow_columns : add_columns)(job, outer, first, last < job->inner ? last : job->inner);
    task = next;
  }
}

/* Sorts the rows of x by the rows that they are added to: counts them first, two places further on, so that after the
 * sorting, which moves each beginning to its end, they are where they belong. */
static void order_rows(const Indexing *job) {
  int64_t *next = job->begin + 1;
  memset(job->begin, 0, (size_t)(job->n + 2) * sizeof *next);
  for (int64_t j = 0; j < job->m; j++) next[index_at(job, j) + 1]++;
  for (int64_t i = 0; i < job->n; i++) next[i + 1] += next[i];
  for (int64_t j = 0; j < job->m; j++) job->order[next[index_at(job, j)]++] = j;
}

static Indexing adding(Tensor *out, const Tensor *x, const Tensor *index) {
  return (Indexing){.out = tensor_data(out),
                    .x = tensor_data(x),
                    .index = tensor_data(index),
                    .x_dtype = x->dtype,
                    .out_dtype = out->dtype,
                    .index_dtype = index->dtype,
                    .n = out->size[1],
                    .m = x->size[1],
                    .inner = x->size[2],
                    .strips = divide_up(x->size[2], STRIP)};
}

bool cpu_index_add(Tensor *out, const Tensor *x, const Tensor *index, bool adds) {
  if (!check_range(index, out->size[1], "index", "rows")) return false;
  Indexing job = adding(out, x, index);
  size_t bytes = out->dtype == DTYPE_F32 ? 0 : (size_t)(job.n + 2 + job.m) * sizeof *job.begin;
  if (bytes > 0) {
    job.begin = scratch_allocate(bytes);
    if (!job.begin) return false;
    job.order = job.begin + job.n + 2;
    order_rows(&job);
  }
  size_t out_bytes = (size_t)tensor_count(out) * dtype_size(out->dtype);
  if (!adds && out_bytes > 0) memset(job.out, 0, out_bytes);
  parallel_for(x->size[0] * job.strips, job.m * (job.inner < STRIP ? job.inner : STRIP), add_rows, &job);
  if (bytes > 0) scratch_release(job.begin, bytes);
  return true;
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
      pick(job->out + position * element, x + start * element, index, job->inner, 1, n, job->element);
    }
  }
}

bool cpu_gather(Tensor *out, const Tensor *x, const Tensor *index) {
  if (!check_range(index, x->size[1], "index", "rows")) return false;
  if (tensor_count(out) == 0) return true;
  Indexing job = picking(out, x, index);
  return run_picks(x, &job, gather_rows);
}
