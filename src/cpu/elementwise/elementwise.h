/* What all elementwise entries share: walking the tensors in chunks, converting, spreading over threads. */
#ifndef FP8_CPU_ELEMENTWISE_ELEMENTWISE_H
#define FP8_CPU_ELEMENTWISE_ELEMENTWISE_H

#include "backend.h"

enum { ELEMENTWISE_MAX_INPUTS = 3 };

/* Computes n elements (at most CHUNK); `in` has one pointer an input. */
typedef void (*FloatKernel)(float *restrict out, const float *const *in, int n);
typedef void (*IntegerKernel)(int64_t *restrict out, const int64_t *const *in, int n);

/* Those of an operation; `integers` is NULL where it is not computed in integers. */
typedef struct ElementwiseKernels {
  FloatKernel floats;
  IntegerKernel integers;
} ElementwiseKernels;

/* out = f(in[0], …, in[inputs - 1]), in 64-bit integers if there is a kernel for them, else in float32. */
void elementwise(Tensor *out, const Operand *in, int inputs, ElementwiseKernels kernels);

/* Whether the operand's values are 64-bit integers: an integer tensor, or a number that is one. */
bool operand_is_integer(const Operand *operand);

#endif
