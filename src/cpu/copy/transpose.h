/* Copies between tensors whose elements are contiguous along different dimensions. */
#ifndef FP8_CPU_COPY_TRANSPOSE_H
#define FP8_CPU_COPY_TRANSPOSE_H

#include "core/tensor.h"

/* Copies src to out (same dtype and shape) tile by tile and returns true; or returns false, having done nothing,
 * where their layouts don't call for it. */
bool transpose_copy(Tensor *out, const Tensor *src);

#endif
