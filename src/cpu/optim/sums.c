#include "cpu/optim/sums.h"

#include "cpu/parallel.h"

/* As many slices whatever the number of threads. */
enum { SUM_SLICES = 64 };

typedef struct ElementSum {
  ChunkSum chunk;
  const void *job;
  int64_t count;
  double *slice;
} ElementSum;

static void sum_slices(int64_t begin, int64_t end, const void *context) {
  const ElementSum *sum = context;
  int64_t chunks = divide_up(sum->count, CHUNK);
  for (int64_t slice = begin; slice < end; slice++) {
    double total = 0;
    for (int64_t start = chunks * slice / SUM_SLICES * CHUNK; start < chunks * (slice + 1) / SUM_SLICES * CHUNK;
         start += CHUNK) {
      total += sum->chunk(sum->job, start, chunk_length(sum->count, start));
    }
    sum->slice[slice] = total;
  }
}

double sum_chunks(int64_t count, ChunkSum chunk, const void *job) {
  double slice[SUM_SLICES], total = 0;
  ElementSum sum = {chunk, job, count, slice};
  parallel_for(SUM_SLICES, count / SUM_SLICES + 1, sum_slices, &sum);
  for (int i = 0; i < SUM_SLICES; i++) total += slice[i];
  return total;
}
