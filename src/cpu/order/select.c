/* The coordinates of flags, in slices of the flags: how many each has says where its coordinates begin. */
#include <stdlib.h>

#include "cpu/cpu.h"
#include "cpu/parallel.h"

enum { SLICE = 16384 };

typedef struct Selection {
  int64_t *out;
  const uint8_t *flags;
  int64_t count; /* of flags */
  int rank;
  const int64_t *size;
  int64_t slices;
  int64_t *begin; /* of each slice: how many flags it has, then how many those before it have */
} Selection;

static int64_t slice_end(const Selection *job, int64_t slice) {
  return (slice + 1) * SLICE < job->count ? (slice + 1) * SLICE : job->count;
}

static void count_slices(int64_t begin, int64_t end, const void *context) {
  const Selection *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    int64_t sum = 0;
    for (int64_t i = slice * SLICE; i < slice_end(job, slice); i++) sum += job->flags[i] != 0;
    job->begin[slice] = sum;
  }
}

static void write_slices(int64_t begin, int64_t end, const void *context) {
  const Selection *job = context;
  for (int64_t slice = begin; slice < end; slice++) {
    int64_t *out = job->out + job->begin[slice] * job->rank;
    for (int64_t i = slice * SLICE; i < slice_end(job, slice); i++) {
      if (!job->flags[i]) continue;
      int64_t rest = i;
      for (int d = job->rank - 1; d > 0; d--) {
        out[d] = rest % job->size[d];
        rest /= job->size[d];
      }
      out[0] = rest;
      out += job->rank;
    }
  }
}

/* Counts each slice's flags, for which job->begin becomes room. */
static bool count_all(Selection *job, const Tensor *flags) {
  *job =
      (Selection){.flags = tensor_data(flags), .count = tensor_count(flags), .rank = flags->rank, .size = flags->size};
  job->slices = divide_up(job->count, SLICE);
  job->begin = host_allocate((size_t)job->slices * sizeof *job->begin);
  if (job->begin) parallel_for(job->slices, SLICE / 16, count_slices, job);
  return job->begin != NULL;
}

bool cpu_count_flags(Tensor *count, const Tensor *flags) {
  Selection job;
  if (!count_all(&job, flags)) return false;
  int64_t sum = 0;
  for (int64_t slice = 0; slice < job.slices; slice++) sum += job.begin[slice];
  *(int64_t *)tensor_data(count) = sum;
  free(job.begin);
  return true;
}

bool cpu_nonzero(Tensor *out, const Tensor *flags) {
  if (tensor_count(out) == 0) return true;
  Selection job;
  if (!count_all(&job, flags)) return false;
  job.out = tensor_data(out);
  int64_t before = 0;
  for (int64_t slice = 0; slice < job.slices; slice++) {
    int64_t own = job.begin[slice];
    job.begin[slice] = before;
    before += own;
  }
  parallel_for(job.slices, SLICE, write_slices, &job);
  free(job.begin);
  return true;
}
