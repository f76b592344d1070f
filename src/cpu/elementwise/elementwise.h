/* What all elementwise entries share: walking the tensors in chunks, converting, spreading over threads. */
#ifndef FP8_CPU_ELEMENTWISE_ELEMENTWISE_H
#define FP8_CPU_ELEMENTWISE_ELEMENTWISE_H

#include "backend.h"

enum { ELEMENTWISE_MAX_INPUTS = 3 };

/* Computes n elements (at most CHUNK) of operation `op`; `in` has one pointer an input. */
typedef void (*FloatKernel)(int op, float *restrict out, const float *const *in, int n);
typedef void (*Bf16Kernel)(int op, float *restrict out, const uint16_t *restrict in, int n);
typedef void (*IntegerKernel)(int op, int64_t *restrict out, const int64_t *const *in, int n);

/* Kernels of an operation. */
typedef struct ElementwiseKernels {
  FloatKernel floats;
  FloatKernel beside_one; /* of two inputs, the second of which is in[1][0] for all elements; or NULL */
  Bf16Kernel of_bf16;     /* of one input, which is converted on the way; or NULL */
  IntegerKernel integers; /* NULL: computed in float32 */
} ElementwiseKernels;

/* out = op(in[0], …, in[inputs - 1]), in 64-bit integers or in float32. False where it was stopped. */
bool elementwise(Tensor *out, const Operand *in, int inputs, int op, ElementwiseKernels kernels);

#endif
