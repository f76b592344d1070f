/* Descriptors of quantizations, for what quantizes and for what compares. */
#ifndef FP8_CUDA_QUANTIZE_PLAN_H
#define FP8_CUDA_QUANTIZE_PLAN_H

#include "cuda/cuda.h"
#include "quantize/quantize.h"

/* A plan to quantize `count` elements: everything but the data pointers and dtypes. */
bool cuda_quantize_plan(QuantizePlan *plan, const CudaDevice *device, const Quantizer *quantizer, int64_t count);

/* The scale of a single block to all elements after the first. */
bool cuda_repeat_scale(const CudaDevice *device, const Tensor *scale);

/* Cuts what plan->quantize is about into pieces of `length`, for groups of threads that hold so many vectors, of
 * `vector` elements, each. */
void cuda_cut_pieces(PiecesPlan *plan, int64_t length, int64_t vector, int vectors);

#endif
