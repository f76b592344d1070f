/* Putting elements or slices where an index says: over what is there, or combined with it. */
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/index/index.h"
#include "cpu/parallel.h"

/* backend.h's shapes. Rows of the source are put in order by one thread, so that repeated indices do not race and no
 * result depends on the number of threads. */
typedef struct Scattering {
  char *x;
  const char *source;
  const void *index;
  DType dtype, index_dtype;
  ScatterRule rule;
  bool slices, one_value; /* the index has one entry a row, the source is one element */
  int64_t n, m, inner;
  int64_t strips; /* ranges of STRIP columns, of inner, that tasks take one of */
} Scattering;

/* x[index[i · index_step] · stride + i · step] takes source[i · source_step]. */
typedef struct Run {
  const int64_t *index;
  int64_t stride;
  int index_step, step, source_step, n;
} Run;

static int64_t target_of(const Run *run, int i) {
  return run->index[i * run->index_step] * run->stride + i * run->step;
}

/* SET of elements of so many bytes. */
static void set_run(const Run *run, void *x, const void *source, size_t element) {
  int step = run->source_step;
  switch (element) {
  case 1:
    for (int i = 0; i < run->n; i++) ((uint8_t *)x)[target_of(run, i)] = ((const uint8_t *)source)[i * step];
    return;
  case 2:
    for (int i = 0; i < run->n; i++) ((uint16_t *)x)[target_of(run, i)] = ((const uint16_t *)source)[i * step];
    return;
  case 4:
    for (int i = 0; i < run->n; i++) ((uint32_t *)x)[target_of(run, i)] = ((const uint32_t *)source)[i * step];
    return;
  case 8:
    for (int i = 0; i < run->n; i++) ((uint64_t *)x)[target_of(run, i)] = ((const uint64_t *)source)[i * step];
    return;
  }
  trap_missing_case();
}

/* SET of neighbouring elements, n of them from the source or all with its value. */
static void set_slice(char *to, const char *source, bool one_value, int n, size_t element) {
  if (!one_value) {
    memcpy(to, source, (size_t)n * element);
    return;
  }
  memcpy(to, source, element);
  for (int done = 1; done < n; done *= 2) {
    memcpy(to + (size_t)done * element, to, (size_t)(done < n - done ? done : n - done) * element);
  }
}

/* Whether x[index[i]] takes source[i]. */
static bool is_plain(const Run *run) {
  return run->stride == 1 && run->index_step == 1 && run->step == 0 && run->source_step == 1;
}

static void combine_floats(const Run *run, float *x, const float *source, ScatterRule rule) {
  if (rule == SCATTER_SUM && is_plain(run)) {
    const int64_t *index = run->index;
    for (int i = 0, n = run->n; i < n; i++) x[index[i]] += source[i];
    return;
  }
  for (int i = 0; i < run->n; i++) {
    float *to = x + target_of(run, i);
    *to = scatter_float(rule, *to, source[i * run->source_step]);
  }
}

static void combine_i32(const Run *run, int32_t *x, const int32_t *source, ScatterRule rule) {
  for (int i = 0; i < run->n; i++) {
    int32_t *to = x + target_of(run, i);
    *to = (int32_t)scatter_integer(rule, *to, source[i * run->source_step]);
  }
}

static void combine_i64(const Run *run, int64_t *x, const int64_t *source, ScatterRule rule) {
  for (int i = 0; i < run->n; i++) {
    int64_t *to = x + target_of(run, i);
    *to = scatter_integer(rule, *to, source[i * run->source_step]);
  }
}

static void put_run(const Scattering *job, const Run *run, char *x, const char *source) {
  size_t element = dtype_size(job->dtype);
  if (job->rule == SCATTER_SET && job->slices && run->step == 1) {
    set_slice(x + (size_t)(run->index[0] * run->stride) * element, source, job->one_value, run->n, element);
  } else if (job->rule == SCATTER_SET) {
    set_run(run, x, source, element);
  } else if (job->dtype == DTYPE_F32) {
    combine_floats(run, (float *)x, (const float *)source, job->rule);
  } else if (job->dtype == DTYPE_I32) {
    combine_i32(run, (int32_t *)x, (const int32_t *)source, job->rule);
  } else {
    combine_i64(run, (int64_t *)x, (const int64_t *)source, job->rule);
  }
}

/* Columns first … last - 1 of all rows. */
static void scatter_columns(const Scattering *job, int64_t outer, int64_t first, int64_t last) {
  int64_t buffer[CHUNK], element = (int64_t)dtype_size(job->dtype);
  char *x = job->x + outer * job->n * job->inner * element;
  for (int64_t j = 0; j < job->m; j++) {
    for (int64_t column = first; column < last; column += CHUNK) {
      int64_t start = (outer * job->m + j) * job->inner + column;
      Run run = {.stride = job->inner, .index_step = !job->slices, .step = 1, .source_step = !job->one_value};
      run.n = chunk_length(last, column);
      run.index = load_integers(job->index_dtype, job->index, job->slices ? j : start, job->slices ? 1 : run.n, buffer);
      put_run(job, &run, x + column * element, job->source + (job->one_value ? 0 : start * element));
    }
  }
}

/* Tasks are (outer, strip of inner); neighbouring strips are taken together. */
static void scatter_rows(int64_t begin, int64_t end, const void *context) {
  const Scattering *job = context;
  for (int64_t task = begin; task < end;) {
    int64_t outer = task / job->strips, next = (outer + 1) * job->strips < end ? (outer + 1) * job->strips : end;
    int64_t first = (task - outer * job->strips) * STRIP, last = (next - outer * job->strips) * STRIP;
    scatter_columns(job, outer, first, last < job->inner ? last : job->inner);
    task = next;
  }
}

/* Where inner is 1: tasks are outer. */
static void scatter_elements(int64_t begin, int64_t end, const void *context) {
  const Scattering *job = context;
  int64_t buffer[CHUNK], element = (int64_t)dtype_size(job->dtype);
  for (int64_t outer = begin; outer < end; outer++) {
    for (int64_t first = 0; first < job->m; first += CHUNK) {
      int64_t start = outer * job->m + first;
      Run run = {.stride = 1, .index_step = 1, .source_step = !job->one_value, .n = chunk_length(job->m, first)};
      run.index = load_integers(job->index_dtype, job->index, job->slices ? first : start, run.n, buffer);
      put_run(job, &run, job->x + outer * job->n * element, job->source + (job->one_value ? 0 : start * element));
    }
  }
}

bool cpu_scatter(Tensor *x, const Tensor *index, const Tensor *source, ScatterRule rule) {
  if (!check_range(index, x->size[1], "index", "rows")) return false;
  Scattering job = {.x = tensor_data(x),
                    .source = tensor_data(source),
                    .index = tensor_data(index),
                    .dtype = x->dtype,
                    .index_dtype = index->dtype,
                    .rule = rule,
                    .slices = index->rank == 1,
                    .one_value = source->rank == 0,
                    .n = x->size[1],
                    .m = index->size[index->rank == 1 ? 0 : 1],
                    .inner = x->size[2],
                    .strips = divide_up(x->size[2], STRIP)};
  if (job.inner == 1) {
    parallel_for(x->size[0], job.m, scatter_elements, &job);
  } else {
    parallel_for(x->size[0] * job.strips, job.m * (job.inner < STRIP ? job.inner : STRIP), scatter_rows, &job);
  }
  return true;
}
