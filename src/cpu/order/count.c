/* Counting elements in bins: slices of the elements have counts of their own, which are added up. */
#include <string.h>

#include "core/order/search.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

enum { SLICES_MOST = 64, SLICE_LEAST = 16384 };

typedef struct Counting {
  const void *x;
  DType dtype;
  int64_t count, bins;
  const float *edges; /* NULL: the elements are numbers of bins */
  int64_t slice_length;
  int64_t *counts; /* (slices, bins) */
} Counting;

static void count_chunk(const Counting *job, int64_t start, int n, int64_t *counts) {
  int64_t integers[CHUNK];
  float floats[CHUNK];
  if (job->edges) {
    const float *values = load_floats(job->dtype, job->x, start, n, floats);
    for (int i = 0; i < n; i++) {
      int64_t bin = bin_between(job->edges, job->bins, values[i]);
      if (bin >= 0) counts[bin]++;
    }
  } else {
    const int64_t *values = load_integers(job->dtype, job->x, start, n, integers);
    for (int i = 0; i < n; i++) {
      if (values[i] >= 0 && values[i] < job->bins) counts[values[i]]++;
    }
  }
}

static void count_slices(int64_t begin, int64_t end, const void *context) {
  const Counting *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    int64_t *counts = job->counts + slice * job->bins, first = slice * job->slice_length;
    int64_t last = first + job->slice_length < job->count ? first + job->slice_length : job->count;
    memset(counts, 0, (size_t)job->bins * sizeof *counts);
    for (int64_t start = first; start < last; start += CHUNK) {
      count_chunk(job, start, chunk_length(last, start), counts);
    }
  }
}

bool cpu_histogram(Tensor *counts, const Tensor *x, const Tensor *edges) {
  Counting job = {.x = tensor_data(x),
                  .dtype = x->dtype,
                  .count = tensor_count(x),
                  .bins = counts->size[0],
                  .edges = edges ? tensor_data(edges) : NULL};
  if (job.bins == 0) return true;
  int64_t least = job.bins > SLICE_LEAST ? job.bins : SLICE_LEAST, slices = job.count / least;
  if (slices > SLICES_MOST) slices = SLICES_MOST;
  if (slices < 1) slices = 1;
  job.slice_length = divide_up(job.count, slices);
  int64_t *out = tensor_data(counts);
  size_t bytes = slices > 1 ? (size_t)(slices * job.bins) * sizeof *out : 0;
  job.counts = slices > 1 ? scratch_allocate(bytes) : out;
  if (!job.counts) return false;
  parallel_for(slices, job.slice_length * 4, count_slices, &job);
  if (slices == 1) return true;
  memcpy(out, job.counts, (size_t)job.bins * sizeof *out);
  for (int64_t slice = 1; slice < slices; slice++) {
    for (int64_t bin = 0; bin < job.bins; bin++) out[bin] += job.counts[slice * job.bins + bin];
  }
  scratch_release(job.counts, bytes);
  return true;
}
