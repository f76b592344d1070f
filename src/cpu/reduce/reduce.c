/* Reductions of the trailing dimensions of a tensor of any strides.
 *
 * Two ways to go through memory: where the reduced elements of one output lie closer together than neighbouring
 * outputs, each output is finished before the next ("runs"); where outputs lie side by side, as in a sum over the
 * rows of a matrix, a row of accumulators takes in one row of elements after the other ("columns"). */
#include <math.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/reduce/kernels.h"
#include "cpu/stream.h"
#include "cpu/vectors.h"

enum { TASK_ELEMENTS = 65536, REDUCE_SLICES = 64, RUN = 8192 };

typedef struct Reduction {
  ReduceOp op;
  double correction;
  bool integer, columns;
  bool is_far;  /* x is fetched ahead (vectors.h) */
  bool in_runs; /* what is reduced lies side by side, and accumulate_run takes it */
  Tensor *out;
  Stream kept, reduced; /* the dimensions of x that stay and those that go; both start at its first element */
  int64_t row;          /* outputs that are neighbours in `kept` */
  int64_t width;        /* of those, how many a task takes */
  int64_t tasks_a_row;
  /* A long reduction of few outputs is cut into slices, which are merged at the end. Slices depend on the shape
   * alone, so the result does not depend on the number of threads. */
  int64_t slices, slice_length;
  Accumulators partial; /* (slices, outputs) if there is more than one slice */
} Reduction;

static Stream stream_of_dimensions(const Tensor *x, int first, int end) {
  Tensor dimensions = *x;
  dimensions.rank = end - first;
  for (int i = 0; i < dimensions.rank; i++) {
    dimensions.size[i] = x->size[first + i];
    dimensions.stride[i] = x->stride[first + i];
  }
  return stream_of(&dimensions);
}

static void accumulate_elements(const Reduction *job, Accumulators one, char *data, int64_t begin, int64_t end) {
  DType dtype = job->reduced.dtype;
  if (job->in_runs) {
    int64_t element = job->reduced.stride[0];
    for (int64_t start = begin; start < end; start += RUN) {
      int n = (int)(end - start < RUN ? end - start : RUN);
      accumulate_rows(job->op, dtype, one, data + start * element, 0, 1, n, job->is_far);
    }
    return;
  }
  Stream elements = job->reduced;
  elements.data = data;
  Chunk chunk;
  float buffer, origin = takes_moments(job->op) && begin < end ? *load_floats(dtype, data, 0, 1, &buffer) : 0;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    if (takes_moments(job->op)) {
      accumulate_moments(one, stream_floats(&elements, start, n, &chunk), origin, n);
    } else if (job->integer) {
      accumulate_run_integers(job->op, one, stream_integers(&elements, start, n, &chunk), n, start);
    } else {
      accumulate_run_floats(job->op, one, stream_floats(&elements, start, n, &chunk), n, start);
    }
  }
}

/* Takes rows eight or four at a time and returns the first position left over. Needs rows at equal distances. Where the
 * eights overflow, which may be before the sum does, they are taken again as fours. */
static int64_t accumulate_fours(ReduceOp op, Accumulators all, const Stream *rows, int n, int64_t begin, int64_t end) {
  bool eights = (op == REDUCE_SUM || op == REDUCE_MEAN) && (rows->dtype == DTYPE_BF16 || rows->dtype == DTYPE_F16);
  int64_t position = begin;
  if (rows->rank > 1 || !accumulates_runs(op, rows->dtype)) return position;
  for (; eights && position + 8 <= end; position += 8) {
    accumulate_eight_rows(rows->dtype, all, stream_address(rows, position), rows->stride[0], n);
  }
  if (eights && !are_finite(all, n)) {
    accumulators_start(op, false, all, n);
    position = begin;
  }
  for (; position + 4 <= end; position += 4) {
    accumulate_four_rows(op, rows->dtype, all, stream_address(rows, position), rows->stride[0], n);
  }
  return position;
}

static void accumulate_columns(const Reduction *job, Accumulators all, char *data, int n, int64_t begin, int64_t end) {
  Stream elements = job->reduced;
  elements.data = data;
  Chunk chunk;
  float buffer[CHUNK];
  bool moments = takes_moments(job->op) && begin < end;
  const float *origin = moments ? load_floats(elements.dtype, data, 0, n, buffer) : NULL;
  int64_t first = job->integer ? begin : accumulate_fours(job->op, all, &elements, n, begin, end);
  for (int64_t position = first; position < end; position++) {
    const char *row = stream_address(&elements, position);
    if (moments) {
      accumulate_column_moments(all, load_floats(elements.dtype, row, 0, n, chunk.floats), origin, n);
    } else if (job->integer) {
      accumulate_columns_integers(job->op, all, load_integers(elements.dtype, row, 0, n, chunk.integers), n, position);
    } else {
      accumulate_columns_floats(job->op, all, load_floats(elements.dtype, row, 0, n, chunk.floats), n, position);
    }
  }
}

/* Writes outputs first … first + n - 1. */
static void finish(const Reduction *job, Accumulators all, int64_t first, int n) {
  void *out = tensor_data(job->out);
  DType dtype = job->out->dtype;
  int64_t integers[CHUNK];
  float floats[CHUNK];
  if (job->op == REDUCE_ARGMAX) {
    for (int i = 0; i < n; i++) integers[i] = all.rest[i].integer;
    store_integers(dtype, out, first, n, integers);
  } else if (job->integer && job->op != REDUCE_MEAN) {
    for (int i = 0; i < n; i++) integers[i] = all.value[i].integer;
    store_integers(dtype, out, first, n, integers);
  } else {
    for (int i = 0; i < n; i++) {
      double total = job->integer ? wide_value(accumulated_sum(all, i)) : all.value[i].number;
      if (takes_moments(job->op)) total = variance_of(total, all.rest[i].number, job->reduced.count, job->correction);
      if (job->op == REDUCE_NORM || job->op == REDUCE_STD) total = sqrt(total);
      if (job->op == REDUCE_MEAN) total /= (double)job->reduced.count;
      floats[i] = float_to_narrow(dtype, total);
    }
    store_floats(dtype, out, first, n, floats);
  }
}

static void reduce_tasks(int64_t begin, int64_t end, const void *context) {
  const Reduction *job = context;
  ReduceValue values[CHUNK];
  ReduceValue rest[CHUNK];
  for (int64_t task = begin; task < end; task++) {
    int64_t slice = task % job->slices, block = task / job->slices;
    int64_t column = block % job->tasks_a_row * job->width;
    int64_t first = block / job->tasks_a_row * job->row + column;
    int n = (int)(job->row - column < job->width ? job->row - column : job->width);
    int64_t from = slice * job->slice_length, to = from + job->slice_length;
    if (to > job->reduced.count) to = job->reduced.count;
    Accumulators all = {values, rest};
    if (job->slices > 1) {
      int64_t place = slice * job->kept.count + first;
      all = (Accumulators){job->partial.value + place, job->partial.rest + place};
    }
    accumulators_start(job->op, job->integer, all, n);
    if (job->columns) {
      accumulate_columns(job, all, stream_address(&job->kept, first), n, from, to);
    } else if (job->in_runs && job->kept.rank == 1 && to - from <= RUN) {
      const char *rows = stream_address(&job->kept, first) + from * dtype_size(job->kept.dtype);
      accumulate_rows(job->op, job->kept.dtype, all, rows, job->kept.stride[0], n, (int)(to - from), job->is_far);
    } else {
      for (int i = 0; i < n; i++) {
        Accumulators one = {all.value + i, all.rest + i};
        accumulate_elements(job, one, stream_address(&job->kept, first + i), from, to);
      }
    }
    if (job->slices == 1) finish(job, all, first, n);
  }
}

static bool prefer_columns(const Reduction *job) {
  int64_t element = dtype_size(job->kept.dtype);
  int last = job->kept.rank - 1;
  if (job->kept.stride[last] != element || job->kept.size[last] < 4 || job->reduced.count < 2) return false;
  return llabs(job->reduced.stride[job->reduced.rank - 1]) > element;
}

static void plan(Reduction *job) {
  job->in_runs = job->reduced.rank == 1 && job->reduced.stride[0] == dtype_size(job->reduced.dtype) &&
                 accumulates_runs(job->op, job->reduced.dtype);
  job->columns = prefer_columns(job);
  job->row = job->columns ? job->kept.size[job->kept.rank - 1] : job->kept.count;
  int64_t length = job->reduced.count > 0 ? job->reduced.count : 1;
  job->width = job->columns ? CHUNK : TASK_ELEMENTS / length;
  if (job->width < 1) job->width = 1;
  if (job->width > CHUNK) job->width = CHUNK;
  if (job->width > job->row) job->width = job->row;
  job->tasks_a_row = divide_up(job->row, job->width);
  int64_t blocks = job->kept.count / job->row * job->tasks_a_row;
  job->slices = divide_up(REDUCE_SLICES, blocks);
  int64_t useful = divide_up(length, divide_up(TASK_ELEMENTS, job->width));
  if (job->slices > useful) job->slices = useful;
  job->slice_length = divide_up(length, job->slices);
}

static bool reduce_in_slices(Reduction *job) {
  int64_t outputs = job->kept.count, places = job->slices * outputs;
  size_t bytes = (size_t)places * 2 * sizeof(ReduceValue);
  job->partial.value = host_allocate(bytes);
  if (!job->partial.value) return false;
  job->partial.rest = job->partial.value + places;
  int64_t blocks = outputs / job->row * job->tasks_a_row;
  parallel_for(blocks * job->slices, job->width * job->slice_length, reduce_tasks, job);
  for (int64_t slice = 1; slice < job->slices; slice++) {
    Accumulators later = {job->partial.value + slice * outputs, job->partial.rest + slice * outputs};
    accumulators_merge(job->op, job->integer, job->partial, later, outputs);
  }
  for (int64_t first = 0; first < outputs; first += CHUNK) {
    Accumulators all = {job->partial.value + first, job->partial.rest + first};
    finish(job, all, first, chunk_length(outputs, first));
  }
  free(job->partial.value);
  return true;
}

bool cpu_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x) {
  Reduction job = {.op = op, .correction = correction, .integer = reduces_integers(op, x->dtype), .out = out};
  job.kept = stream_of_dimensions(x, 0, out->rank);
  job.reduced = stream_of_dimensions(x, out->rank, x->rank);
  job.is_far = is_fetched(job.kept.count * job.reduced.count * dtype_size(x->dtype));
  if (job.kept.count == 0) return true;
  plan(&job);
  if (job.slices > 1) return reduce_in_slices(&job);
  int64_t blocks = job.kept.count / job.row * job.tasks_a_row;
  parallel_for(blocks, job.width * job.slice_length, reduce_tasks, &job);
  return true;
}
