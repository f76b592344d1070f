/* Rotary position embedding: the cosines and sines of all positions first, then each row by those of its position. */
#include <math.h>

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

typedef struct Rotating {
  DType dtype;
  void *out;
  const void *x;
  int64_t positions, inner, pairs;
  Rotation rotation;
  float *cosines, *sines; /* (positions, pairs) */
} Rotating;

static void fill_tables(int64_t begin, int64_t end, const void *context) {
  const Rotating *job = context;
  double features = 2.0 * (double)job->pairs;
  for (int64_t position = begin; position < end; position++) {
    for (int64_t i = 0; i < job->pairs; i++) {
      double angle = (double)(job->rotation.offset + position) * pow(job->rotation.base, -2.0 * (double)i / features);
      job->cosines[position * job->pairs + i] = (float)cos(angle);
      job->sines[position * job->pairs + i] = (float)(job->rotation.backwards ? -sin(angle) : sin(angle));
    }
  }
}

/* Pairs whose halves are `step` apart, the next pair `stride` after one. */
VECTORIZE static void rotate_pairs(float *restrict out, const float *restrict x, const float *restrict cosines,
                                   const float *restrict sines, int step, int stride, int n) {
  for (int i = 0; i < n; i++) {
    float a = x[i * stride], b = x[i * stride + step];
    out[i * stride] = a * cosines[i] - b * sines[i];
    out[i * stride + step] = b * cosines[i] + a * sines[i];
  }
}

/* n pairs from pair `first` of the row of features that begins at element `row`. */
static void rotate_run(const Rotating *job, int64_t row, int64_t first, int n, const float *cosines,
                       const float *sines) {
  float x[2 * CHUNK], out[2 * CHUNK];
  if (job->rotation.interleaved) {
    convert_run(DTYPE_F32, x, 0, job->dtype, job->x, row + 2 * first, 2 * n);
    rotate_pairs(out, x, cosines, sines, 1, 2, n);
    convert_run(job->dtype, job->out, row + 2 * first, DTYPE_F32, out, 0, 2 * n);
    return;
  }
  for (int half = 0; half < 2; half++) {
    convert_run(DTYPE_F32, x + half * CHUNK, 0, job->dtype, job->x, row + half * job->pairs + first, n);
  }
  rotate_pairs(out, x, cosines, sines, CHUNK, 1, n);
  for (int half = 0; half < 2; half++) {
    convert_run(job->dtype, job->out, row + half * job->pairs + first, DTYPE_F32, out + half * CHUNK, 0, n);
  }
}

static void rotate_rows(int64_t begin, int64_t end, const void *context) {
  const Rotating *job = context;
  for (int64_t row = begin; row < end; row++) {
    int64_t position = row / job->inner % job->positions;
    for (int64_t first = 0; first < job->pairs; first += CHUNK) {
      int64_t at = position * job->pairs + first;
      rotate_run(job, row * 2 * job->pairs, first, chunk_length(job->pairs, first), job->cosines + at, job->sines + at);
    }
  }
}

bool cpu_rotate(Tensor *out, const Tensor *x, const Rotation *rotation) {
  Rotating job = {.dtype = x->dtype,
                  .out = tensor_data(out),
                  .x = tensor_data(x),
                  .positions = x->size[1],
                  .inner = x->size[2],
                  .pairs = x->size[3] / 2,
                  .rotation = *rotation};
  int64_t count = job.positions * job.pairs;
  size_t bytes = 2 * (size_t)count * sizeof(float);
  job.cosines = scratch_allocate(bytes);
  if (!job.cosines) return false;
  job.sines = job.cosines + count;
  enum { TRIGONOMETRY_WORK = 100 };
  parallel_for(job.positions, job.pairs * TRIGONOMETRY_WORK, fill_tables, &job);
  parallel_for(x->size[0] * job.positions * job.inner, 4 * job.pairs, rotate_rows, &job);
  scratch_release(job.cosines, bytes);
  return true;
}
