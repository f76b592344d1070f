/* The largest magnitude and the column sums of a matrix: in one pass, or as noted by the kernel that wrote it. */
#ifndef FP8_CUDA_MEASURE_H
#define FP8_CUDA_MEASURE_H

#include "cuda/cuda.h"

/* Words whose maximum is the bits of the largest magnitude, at least those of infinity if there is an infinity or a
 * NaN; tensor_release `words` when the work that uses them is enqueued, after a failure too. */
typedef struct Maxima {
  Tensor words;
  int count;
} Maxima;

/* Whether cuda_measure takes a contiguous matrix. */
bool cuda_measurable(const void *data, DType dtype, int64_t columns);

/* `sum` (columns, any float dtype) and `maxima` may be NULL; rows and columns are at least 1. */
bool cuda_measure(const CudaDevice *device, const void *data, DType dtype, int64_t rows, int64_t columns, Tensor *sum,
                  Maxima *maxima);

/* A smaller tensor is quantized in one launch anyway: no maxima are noted with it. */
static const int64_t cuda_least_noted = ((int64_t)1 << 20) + 1;

/* Notes with `out` (core/tensor.h), all of which a kernel is about to write, that it leaves its largest magnitudes in
 * *words, `count` of them. *words becomes NULL if that is 0, and for a small tensor. */
bool cuda_note_maxima(const CudaDevice *device, const Tensor *out, int count, uint32_t **words);

/* Makes *maxima what has been noted with x, if that still holds. */
bool cuda_known_maxima(const Tensor *x, Maxima *maxima);

/* The same of column sums: `rows` rows, of as many as `out`, a matrix (all dimensions but the last are rows), has
 * columns. */
bool cuda_note_column_sums(const CudaDevice *device, const Tensor *out, int rows, float **sums);

/* sum = the column sums of x that have been noted; *known is whether there are any. */
bool cuda_known_column_sums(const CudaDevice *device, Tensor *sum, const Tensor *x, bool *known);

/* sum[c] = the sum of partials[row][c + k · columns] over rows and k: FinishSumPlan. */
bool cuda_finish_sum(const CudaDevice *device, Tensor *sum, const float *partials, int64_t rows, int64_t width);

#endif
