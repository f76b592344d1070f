/* Sums over the elements of a tensor, in float64 and in the same order whatever the number of threads. */
#ifndef FP8_CPU_OPTIM_SUMS_H
#define FP8_CPU_OPTIM_SUMS_H

#include <stdint.h>

/* The sum over elements start … start + n - 1, at most CHUNK. */
typedef double (*ChunkSum)(const void *job, int64_t start, int n);

double sum_chunks(int64_t count, ChunkSum chunk, const void *job);

#endif
