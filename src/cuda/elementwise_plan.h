/* Elementwise descriptors from tensors. */
#ifndef FP8_CUDA_PLAN_H
#define FP8_CUDA_PLAN_H

#include "internal.h"

/* A plan over the elements of `out` (which must not be empty): dimensions of size 1 dropped, neighbours merged where
 * every operand allows it, and the widest vectors that all operands allow. */
ElementwisePlan elementwise_plan(const Tensor *out, const Operand *inputs, int input_count);

/* Takes the plan's vectors away and marks it for 64-bit integer arithmetic. */
void plan_integers(ElementwisePlan *plan);

/* `number` towards zero, clamped to 64 bits; NaN gives 0. */
int64_t integer_from_double(double number);

/* True if `number` is a whole number that fits 64 bits. */
bool is_whole(double number);

static inline Operand tensor_operand(const Tensor *tensor) { return (Operand){.tensor = tensor}; }
static inline Operand number_operand(double number) { return (Operand){.number = number}; }

#endif
