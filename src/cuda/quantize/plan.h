/* Descriptors of quantizations, for what quantizes and for what compares. */
#ifndef FP8_CUDA_QUANTIZE_PLAN_H
#define FP8_CUDA_QUANTIZE_PLAN_H

#include "cuda/cuda.h"
#include "quantize/quantize.h"

/* A plan to quantize `count` elements: everything but the data pointers and dtypes. */
bool cuda_quantize_plan(QuantizePlan *plan, const CudaDevice *device, const Quantizer *quantizer, int64_t count);

/* The grid and the limit of a hardware format, which is then rounded to as maps with a grid are. */
void cuda_set_grid(QuantizePlan *plan);

/* Whether all numbers that a quantizer scales can be looked up in its map, but for those with known scales. */
bool cuda_looks_up(const Quantizer *quantizer);

/* Whether what is made of the elements of x, 16-bit ones, can be quantized without being written: of a large matrix, with
 * one scale and a hardware format, as codes, transposed codes or both. */
bool cuda_quantizes_made(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);

/* A plan for that: everything but scales. */
bool cuda_transpose_plan(TransposePlan *plan, const CudaDevice *device, const QuantizeOutputs *outputs, const Tensor *x,
                         const Quantizer *quantizer);

/* Delayed scaling from maxima, `count` words; the rule is that of the plan. */
bool cuda_scale_from_history(const CudaDevice *device, const Tensor *scale, const QuantizePlan *plan,
                             const Tensor *history, const uint32_t *maxima, int count, HistoryRecord record);

/* The scale of a single block to all elements after the first. */
bool cuda_repeat_scale(const CudaDevice *device, const Tensor *scale);

/* Cuts what plan->quantize is about into pieces of `length`, for groups of threads that hold so many vectors, of
 * `vector` elements, each. */
void cuda_cut_pieces(PiecesPlan *plan, int64_t length, int64_t vector, int vectors);

#endif
