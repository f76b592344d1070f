/* Pooling: the largest element of each window, or the mean. */
#include <math.h>
#include <string.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/index/index.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

typedef struct Pool {
  const float *in;
  float *out;
  int64_t *index;
  const PoolRule *rule;
} Pool;

/* Planes of floats: those of a tensor, or a copy, of which the caller releases `bytes` unless that is 0. NULL with an
 * error. */
static const float *planes_of(const Tensor *x, size_t *bytes) {
  int64_t count = tensor_count(x);
  *bytes = x->dtype == DTYPE_F32 ? 0 : (size_t)count * sizeof(float);
  if (*bytes == 0) return tensor_data(x);
  float *copy = scratch_allocate(*bytes);
  if (copy) convert_all(DTYPE_F32, copy, x->dtype, tensor_data(x), count);
  return copy;
}

typedef struct Best {
  float value;
  int64_t position;
} Best;

static Best largest_of(const float *plane, int64_t width, WindowSpan y, WindowSpan x) {
  bool any = y.count > 0 && x.count > 0;
  Best best = {-INFINITY, any ? y.first * width + x.first : 0};
  for (int64_t i = 0; i < y.count; i++) {
    for (int64_t j = 0; j < x.count; j++) {
      int64_t position = (y.first + i * y.step) * width + x.first + j * x.step;
      float value = plane[position];
      if (value > best.value || value != value) best = (Best){value, position};
    }
  }
  return best;
}

static double sum_of(const float *plane, int64_t width, WindowSpan y, WindowSpan x) {
  double sum = 0;
  for (int64_t i = 0; i < y.count; i++) {
    const float *row = plane + (y.first + i * y.step) * width + x.first;
    for (int64_t j = 0; j < x.count; j++) sum += (double)row[j * x.step];
  }
  return sum;
}

/* What the sum over a window is divided by. */
static int64_t divisor_of(const PoolRule *rule, int64_t oy, int64_t ox, WindowSpan y, WindowSpan x) {
  if (rule->divisor != 0) return rule->divisor;
  return window_length(&rule->window.y, oy, y, rule->padded) * window_length(&rule->window.x, ox, x, rule->padded);
}

/* Tasks are (image, channel). */
static void pool_planes(int64_t begin, int64_t end, const void *context) {
  const Pool *job = context;
  const WindowAxis *y = &job->rule->window.y, *x = &job->rule->window.x;
  for (int64_t task = begin; task < end; task++) {
    const float *plane = job->in + task * y->input * x->input;
    int64_t to = task * y->output * x->output;
    for (int64_t oy = 0; oy < y->output; oy++) {
      WindowSpan rows = window_span(y, oy);
      for (int64_t ox = 0; ox < x->output; ox++, to++) {
        WindowSpan columns = window_span(x, ox);
        if (job->rule->largest) {
          Best best = largest_of(plane, x->input, rows, columns);
          job->out[to] = best.value;
          if (job->index) job->index[to] = best.position;
        } else {
          double sum = sum_of(plane, x->input, rows, columns);
          job->out[to] = (float)(sum / (double)divisor_of(job->rule, oy, ox, rows, columns));
        }
      }
    }
  }
}

static void pool_backward_planes(int64_t begin, int64_t end, const void *context) {
  const Pool *job = context;
  const WindowAxis *y = &job->rule->window.y, *x = &job->rule->window.x;
  for (int64_t task = begin; task < end; task++) {
    float *plane = job->out + task * y->input * x->input;
    int64_t from = task * y->output * x->output;
    for (int64_t oy = 0; oy < y->output; oy++) {
      WindowSpan rows = window_span(y, oy);
      for (int64_t ox = 0; ox < x->output; ox++, from++) {
        WindowSpan columns = window_span(x, ox);
        if (job->rule->largest) {
          if (rows.count > 0 && columns.count > 0) plane[job->index[from]] += job->in[from];
          continue;
        }
        float share = job->in[from] / (float)divisor_of(job->rule, oy, ox, rows, columns);
        for (int64_t i = 0; i < rows.count; i++) {
          float *row = plane + (rows.first + i * rows.step) * x->input + columns.first;
          for (int64_t j = 0; j < columns.count; j++) row[j * columns.step] += share;
        }
      }
    }
  }
}

/* Runs `planes` from `in` to `out`, zeros first if they are added to. */
static bool run(Pool job, Tensor *out, const Tensor *in, int64_t work, ParallelBody planes, bool adds) {
  size_t in_bytes, out_bytes = out->dtype == DTYPE_F32 ? 0 : (size_t)tensor_count(out) * sizeof(float);
  job.in = planes_of(in, &in_bytes);
  job.out = out_bytes == 0 ? tensor_data(out) : scratch_allocate(out_bytes);
  bool done = (job.in || tensor_count(in) == 0) && job.out;
  if (done) {
    if (adds) memset(job.out, 0, (size_t)tensor_count(out) * sizeof(float));
    parallel_for(out->size[0] * out->size[1], work, planes, &job);
    if (out_bytes > 0) convert_all(out->dtype, tensor_data(out), DTYPE_F32, job.out, tensor_count(out));
  }
  if (in_bytes > 0) scratch_release((float *)job.in, in_bytes);
  if (out_bytes > 0) scratch_release(job.out, out_bytes);
  return done;
}

static int64_t work_of(const PoolRule *rule) {
  const WindowAxis *y = &rule->window.y, *x = &rule->window.x;
  int64_t covered = y->adaptive ? y->input * x->input : y->kernel * x->kernel * y->output * x->output;
  return covered + y->output * x->output;
}

bool cpu_pool(Tensor *out, Tensor *index, const Tensor *x, const PoolRule *rule) {
  if (tensor_count(out) == 0) return true;
  Pool job = {.index = index ? tensor_data(index) : NULL, .rule = rule};
  return run(job, out, x, work_of(rule), pool_planes, false);
}

bool cpu_pool_backward(Tensor *dx, const Tensor *dy, const Tensor *index, const PoolRule *rule) {
  if (tensor_count(dx) == 0) return true;
  if (index && !check_range(index, dx->size[2] * dx->size[3], "position", "elements")) return false;
  Pool job = {.index = index ? tensor_data(index) : NULL, .rule = rule};
  return run(job, dx, dy, work_of(rule), pool_backward_planes, true);
}
