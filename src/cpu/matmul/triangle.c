/* What a triangle's zeros must not take from operands that are not finite. */
#include <math.h>

#include "core/portable.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectors.h"

typedef struct Triangle {
  const Tensor *out, *a, *b;
  bool lower;
} Triangle;

static float element(const Tensor *x, int64_t batch, int64_t row, int64_t column) {
  float buffer[1];
  int64_t at = batch * x->stride[0] + row * x->stride[1] + column * x->stride[2];
  return *load_floats(x->dtype, tensor_data(x), at, 1, buffer);
}

static bool is_finite(const float *x, int n) { return largest_magnitude(x, n) < float_to_bits(INFINITY); }

/* Elements that are neighbours in memory, from `first` on. */
static bool run_is_finite(const Tensor *x, int64_t first, int64_t length) {
  float buffer[CHUNK];
  for (int64_t start = 0; start < length; start += CHUNK) {
    int n = chunk_length(length, start);
    if (!is_finite(load_floats(x->dtype, tensor_data(x), first + start, n, buffer), n)) return false;
  }
  return true;
}

static bool matrix_is_finite(const Tensor *x, int64_t batch) {
  int across = x->stride[2] == 1 ? 1 : 2, along = 3 - across;
  if (x->stride[across] == x->size[along]) {
    return run_is_finite(x, batch * x->stride[0], x->size[1] * x->size[2]);
  }
  for (int64_t i = 0; i < x->size[across]; i++) {
    if (!run_is_finite(x, batch * x->stride[0] + i * x->stride[across], x->size[along])) return false;
  }
  return true;
}

static bool column_is_finite(const Tensor *x, int64_t batch, int64_t column) {
  for (int64_t i = 0; i < x->size[1]; i++) {
    float value = element(x, batch, i, column);
    if (!is_finite(&value, 1)) return false;
  }
  return true;
}

static void compute_column(const Triangle *job, int64_t batch, int64_t column) {
  int64_t rows = job->a->size[1], inner = job->a->size[2], columns = job->b->size[2];
  for (int64_t row = 0; row < rows; row++) {
    int64_t diagonal = row + inner - rows;
    int64_t begin = job->lower || diagonal < 0 ? 0 : diagonal, end = job->lower ? diagonal + 1 : inner;
    double sum = 0;
    for (int64_t i = begin; i < end; i++) {
      sum += (double)element(job->a, batch, row, i) * (double)element(job->b, batch, i, column);
    }
    float value = (float)sum;
    store_floats(job->out->dtype, tensor_data(job->out), (batch * rows + row) * columns + column, 1, &value);
  }
}

static void mend_matrices(int64_t begin, int64_t end, const void *context) {
  const Triangle *job = context;
  for (int64_t batch = begin; batch < end; batch++) {
    if (matrix_is_finite(job->b, batch)) continue;
    for (int64_t column = 0; column < job->b->size[2]; column++) {
      if (!column_is_finite(job->b, batch, column)) compute_column(job, batch, column);
    }
  }
}

bool cpu_mend_triangle(Tensor *out, const Tensor *a, const Tensor *b, bool lower) {
  Triangle job = {out, a, b, lower};
  parallel_for(a->size[0], b->size[1] * b->size[2], mend_matrices, &job);
  return true;
}
