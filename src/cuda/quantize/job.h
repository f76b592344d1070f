/* A quantization under way, and its way to codes, values and scales in the order of x (pieces.c). */
#ifndef FP8_CUDA_QUANTIZE_JOB_H
#define FP8_CUDA_QUANTIZE_JOB_H

#include "cuda/quantize/plan.h"

/* `plan` is filled in for all passes. */
typedef struct QuantizeJob {
  CudaDevice *device;
  const QuantizeOutputs *outputs;
  const Tensor *x;
  const Quantizer *quantizer;
  QuantizePlan plan;
  int64_t rows, columns;
  int64_t vector;   /* elements in 16 bytes of x */
  bool fast;        /* the fast kernels take it, if its shape fits */
  bool fast_random; /* of the fast kernels, those of pieces take it, which round stochastically */
  bool measurable;  /* cuda_measure takes x */
} QuantizeJob;

/* Column sums on their own, if they are wanted. */
bool cuda_sum_columns(const QuantizeJob *job);
/* Everything that is wanted of x but the transposed codes. */
bool cuda_quantize_codes(const QuantizeJob *job);

/* Codes, which have their place, scales and transposed codes, where blocks are such that this goes band by band; *done is
 * whether it has gone. */
bool cuda_quantize_bands(const QuantizeJob *job, bool *done);

#endif
