/* Delayed scaling: a scale from the magnitudes of earlier tensors. */
#include <string.h>

#include "cpu/quantize/codes.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

enum { SLICE = 32 * CHUNK };

typedef struct Measure {
  const Tensor *x;
  int64_t count;
  uint32_t *largest; /* of each slice */
} Measure;

static void measure_slices(int64_t begin, int64_t end, const void *context) {
  const Measure *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    int64_t first = slice * SLICE, last = job->count - first < SLICE ? job->count : first + SLICE;
    job->largest[slice] = 0;
    for (int64_t start = first; start < last; start += CHUNK) {
      float buffer[CHUNK];
      int n = last - start < CHUNK ? (int)(last - start) : CHUNK;
      uint32_t magnitude = largest_magnitude(load_floats(job->x->dtype, tensor_data(job->x), start, n, buffer), n);
      if (magnitude > job->largest[slice]) job->largest[slice] = magnitude;
    }
  }
}

static bool measure(const Tensor *x, uint32_t *magnitude) {
  Measure job = {.x = x, .count = tensor_count(x)};
  int64_t slices = (job.count + SLICE - 1) / SLICE;
  size_t bytes = (size_t)slices * sizeof *job.largest;
  job.largest = scratch_allocate(bytes);
  if (!job.largest) return false;
  parallel_for(slices, SLICE, measure_slices, &job);
  *magnitude = 0;
  for (int64_t i = 0; i < slices; i++) *magnitude = job.largest[i] > *magnitude ? job.largest[i] : *magnitude;
  scratch_release(job.largest, bytes);
  return true;
}

bool cpu_delayed_scale(Tensor *scale, const Tensor *x, Tensor *history, const Quantizer *quantizer, bool record) {
  uint32_t magnitude;
  if (!measure(x, &magnitude)) return false;
  float *past = tensor_data(history), *out = tensor_data(scale);
  int64_t length = tensor_count(history);
  uint32_t largest = 0;
  for (int64_t i = 0; i < length; i += CHUNK) {
    uint32_t part = largest_magnitude(past + i, length - i < CHUNK ? (int)(length - i) : CHUNK);
    if (part > largest) largest = part;
  }
  *out = scale_of_history(largest, magnitude, quantizer->format, quantizer->scale_rounding);
  if (!record || *out != *out) return true;
  memmove(past + 1, past, (size_t)(length - 1) * sizeof *past);
  past[0] = float_from_bits(magnitude);
  return true;
}
