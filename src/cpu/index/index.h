/* What the kernels of indexing share. */
#ifndef FP8_CPU_INDEX_H
#define FP8_CPU_INDEX_H

#include "core/tensor.h"

enum { STRIP = 64 }; /* columns: whole cache lines, so that threads share none */

/* Fails unless every element of `index` (contiguous integers) is in [0, limit): "`what` 12 is out of range: there
 * are 10 `things`". */
bool check_range(const Tensor *index, int64_t limit, const char *what, const char *things);

#endif
