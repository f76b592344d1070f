/* The launchers of elementwise arithmetic and of copies, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_ELEMENTWISE_H
#define FP8_KERNELS_ELEMENTWISE_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A tensor's elements or, where `data` is NULL, one number for all of them, as the float and the integer it converts
 * to. */
typedef struct ElementOperand {
  void *data;
  DType dtype;
  int64_t stride[KERNEL_MAX_RANK];
  float number;
  int64_t integer;
} ElementOperand;

enum { ELEMENTWISE_OPERANDS = 4, ELEMENTWISE_BLOCK = 256 };

/* operand[0] is the output, the others are the inputs in order; all have the shape `size`, dimensions merged where
 * possible, rank at least 1. With vector_width 4 or 8 the innermost strides are 1 (or 0 for an input) and every vector
 * of that many elements is aligned; then the innermost size is a multiple of it, or rank is 1. */
typedef struct ElementwisePlan {
  int rank;
  int operands;
  int vector_width; /* 1, 4 or 8 */
  bool integer;     /* compute in int64, not float32 */
  bool wrap;        /* computed in int64, the output keeps the low bits; else it saturates */
  bool saturate;    /* for a float8 output */
  int64_t count;
  int64_t size[KERNEL_MAX_RANK];
  ElementOperand operand[ELEMENTWISE_OPERANDS];
} ElementwisePlan;

cudaError_t launch_unary(Launch launch, const ElementwisePlan *plan, UnaryOp op);
cudaError_t launch_binary(Launch launch, const ElementwisePlan *plan, BinaryOp op);
/* An activation function, or its gradient from that of its result, of f16 or bf16 at multiples of 16 bytes. */
typedef struct ActivationPlan {
  UnaryOp op; /* RELU, GELU, GELU_TANH or SILU */
  DType dtype;
  const void *x, *grad; /* grad: NULL for the function */
  void *out;            /* NULL: only maxima are found */
  int64_t rows, across; /* of a matrix, whose rows have so many vectors of 8 elements; not 0 */
  uint32_t *maxima;     /* a word for each of activation_grid's thread blocks: of what it wrote; or NULL */
  float *partials;      /* of a gradient: column sums, in activation_partial_rows rows; or NULL */
  /* NULL, or: nothing is done if there is more than zeros in it. */
  const float *history;
  int64_t history_length;
} ActivationPlan;
int activation_partial_rows(const ActivationPlan *plan, int multiprocessors);
/* Once `partials` is what it will be. */
int activation_grid(const ActivationPlan *plan, int multiprocessors);
cudaError_t launch_activation(Launch launch, const ActivationPlan *plan);
cudaError_t launch_where(Launch launch, const ElementwisePlan *plan);
/* Inputs: x, low, high; the last two are numbers. */
cudaError_t launch_clamp(Launch launch, const ElementwisePlan *plan);
/* backend.h, scale: `count` elements. */
cudaError_t launch_scale(Launch launch, void *x, DType dtype, int64_t count, const float *factor);
/* Input: what to convert to the output's dtype; a number fills. */
cudaError_t launch_convert(Launch launch, const ElementwisePlan *plan);
/* Copies elements of `word_bytes` (1, 2, 4, 8 or 16) as they are; sizes and strides count words. */
cudaError_t launch_copy_words(Launch launch, const ElementwisePlan *plan, int word_bytes);
/* The same for up to COPIED_PARTS parts at once: sizes and strides of each count words, over at most COPIED_RANK dimensions
 * (at least one), `count` their product. */
enum { COPIED_PARTS = 30, COPIED_RANK = 4 };
typedef struct CopiedPart {
  void *out;
  const void *in;
  int rank;
  int64_t count;
  int64_t size[COPIED_RANK], out_stride[COPIED_RANK], in_stride[COPIED_RANK];
} CopiedPart;
typedef struct CopyPartsPlan {
  int parts;
  CopiedPart part[COPIED_PARTS];
} CopyPartsPlan;
cudaError_t launch_copy_parts(Launch launch, const CopyPartsPlan *plan, int word_bytes);
/* out[b][r][c] = in[b][r][c] for an output with stride 1 in c and an input with stride 1 in r; rank 3; words up to 8
 * bytes. */
cudaError_t launch_transpose_words(Launch launch, const ElementwisePlan *plan, int word_bytes);

#ifdef __cplusplus
}
#endif

#endif
