/* Work spread over the OpenMP threads, which OpenBLAS and oneDNN use too. */
#ifndef FP8_CPU_PARALLEL_H
#define FP8_CPU_PARALLEL_H

#include <stdint.h>

typedef void (*ParallelBody)(int64_t begin, int64_t end, const void *context);

/* Calls `body` on ranges that cover 0 … count - 1, each of which takes about `work` element operations; on this
 * thread alone where that is too little to be worth waking others. */
void parallel_for(int64_t count, int64_t work, ParallelBody body, const void *context);

#endif
