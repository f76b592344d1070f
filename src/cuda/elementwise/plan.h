/* Elementwise descriptors from tensors. */
#ifndef FP8_CUDA_PLAN_H
#define FP8_CUDA_PLAN_H

#include "cuda/cuda.h"
#include "elementwise/elementwise.h"

/* A plan over the elements of `out` (which must not be empty): dimensions of size 1 dropped, neighbours merged where
 * every operand allows it, and the widest vectors that all operands allow. */
ElementwisePlan elementwise_plan(const Tensor *out, const Operand *inputs, int input_count);

/* Takes the plan's vectors away and marks it for 64-bit integer arithmetic. */
void plan_integers(ElementwisePlan *plan);

static inline Operand tensor_operand(const Tensor *tensor) { return (Operand){.tensor = tensor}; }
static inline Operand number_operand(Number number) { return (Operand){.number = number}; }

#endif
