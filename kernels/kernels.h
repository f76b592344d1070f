/* The launchers of every CUDA kernel and the plain descriptors they take. src/cuda makes these from tensors; nothing
 * here knows a Tensor. A launcher only enqueues work on `launch.stream`; it returns what cudaGetLastError says, and
 * does nothing for empty outputs. */
#ifndef FP8_KERNELS_H
#define FP8_KERNELS_H

#include <cuda_runtime_api.h>

#include "backend.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KERNEL_MAX_RANK = 8 };

/* Where a kernel runs, and how wide the device is: grids are a few waves over its multiprocessors. */
typedef struct Launch {
  cudaStream_t stream;
  int multiprocessors;
} Launch;

/* --- faults: what an index out of range leaves behind for the host --- */

typedef enum FaultKind {
  FAULT_NONE,
  FAULT_CROSS_ENTROPY,
  FAULT_INDEX_SELECT,
  FAULT_INDEX_ADD,
  FAULT_GATHER,
  FAULT_SCATTER_ADD,
  FAULT_KIND_COUNT
} FaultKind;

/* A word in mapped host memory: 0, or the kind in the low 8 bits and the offending index above them. */
typedef volatile long long FaultWord;

/* --- elementwise --- */

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
  bool saturate;    /* for a float8 output */
  int64_t count;
  int64_t size[KERNEL_MAX_RANK];
  ElementOperand operand[ELEMENTWISE_OPERANDS];
} ElementwisePlan;

cudaError_t launch_unary(Launch launch, const ElementwisePlan *plan, UnaryOp op);
cudaError_t launch_binary(Launch launch, const ElementwisePlan *plan, BinaryOp op);
cudaError_t launch_where(Launch launch, const ElementwisePlan *plan);
/* Inputs: x, low, high; the last two are numbers. */
cudaError_t launch_clamp(Launch launch, const ElementwisePlan *plan);
/* Input: what to convert to the output's dtype; a number fills. */
cudaError_t launch_convert(Launch launch, const ElementwisePlan *plan);
/* Copies elements of `word_bytes` (1, 2, 4, 8 or 16) as they are; sizes and strides count words. */
cudaError_t launch_copy_words(Launch launch, const ElementwisePlan *plan, int word_bytes);
/* out[b][r][c] = in[b][r][c] for an output with stride 1 in c and an input with stride 1 in r; rank 3; words up to 8
 * bytes. */
cudaError_t launch_transpose_words(Launch launch, const ElementwisePlan *plan, int word_bytes);

/* out[i] = start + i · step. With `exact`, in 64-bit integers. */
cudaError_t launch_arange(Launch launch, void *out, DType dtype, int64_t count, double start, double step, bool exact);
cudaError_t launch_random(Launch launch, void *out, DType dtype, int64_t count, RandomKind kind, RandomSource source,
                          int64_t low, uint64_t range);

/* --- reductions --- */

/* Each of `outputs` results (over the kept dimensions) reduces `length` elements (over the reduced ones), in `splits`
 * chunks of `chunk` elements that are combined by a second kernel through `partials`. Dimensions are merged where
 * possible. */
typedef struct ReducePlan {
  ReduceOp op;
  const void *data;
  DType dtype;
  void *out;
  DType out_dtype;
  int kept_rank, reduced_rank;
  int64_t kept_size[KERNEL_MAX_RANK], kept_stride[KERNEL_MAX_RANK];
  int64_t reduced_size[KERNEL_MAX_RANK], reduced_stride[KERNEL_MAX_RANK];
  int64_t outputs, length;
  bool integer;   /* accumulate in int64 */
  bool columns;   /* neighbouring lanes take neighbouring outputs, not neighbouring elements of one output */
  bool vectorize; /* rows only: four elements at a time */
  int64_t splits, chunk;
  void *partials; /* splits · outputs · REDUCE_PARTIAL_BYTES, if splits > 1 */
} ReducePlan;

enum { REDUCE_PARTIAL_BYTES = 16 };

cudaError_t launch_reduce(Launch launch, const ReducePlan *plan);

/* A contiguous matrix of any float dtype. */
typedef struct Rows {
  void *data;
  DType dtype;
  int64_t rows, columns;
} Rows;

/* `queries`: the rows of a matrix, if causal. `out` may be `x`, `dx` may be `dy`. */
cudaError_t launch_softmax(Launch launch, Rows out, Rows x, SoftmaxRule rule, int64_t queries);
cudaError_t launch_softmax_backward(Launch launch, Rows dx, Rows dy, Rows y, SoftmaxRule rule, int64_t queries);

typedef struct CrossEntropyPlan {
  Rows logits;
  const void *target;
  DType target_dtype;
  float *statistics; /* (rows, 2) */
  FaultWord *fault;
  float *loss; /* forward */
  /* backward: */
  void *dlogits;
  DType dlogits_dtype;
  const float *dloss;
  int64_t dloss_stride; /* counts elements; may be 0 */
} CrossEntropyPlan;

cudaError_t launch_cross_entropy(Launch launch, const CrossEntropyPlan *plan);
cudaError_t launch_cross_entropy_backward(Launch launch, const CrossEntropyPlan *plan);

/* --- normalization: f32, f16 or bf16 --- */

/* A weight or bias: f32 or of x's dtype; data NULL for none. */
typedef struct NormalizeParameter {
  const void *data;
  DType dtype;
} NormalizeParameter;

typedef struct NormalizePlan {
  Rows x;
  void *out; /* of x's dtype */
  NormalizeParameter weight, bias;
  float *mean, *inverse; /* one a row; mean is NULL for root mean square normalization */
  float epsilon;
} NormalizePlan;
cudaError_t launch_normalize(Launch launch, const NormalizePlan *plan);

typedef struct NormalizeBackwardPlan {
  Rows x;
  const void *dy;
  DType dy_dtype;
  void *dx;           /* of x's dtype, or NULL */
  const void *addend; /* of x's dtype, added to dx; or NULL */
  NormalizeParameter weight;
  const float *mean, *inverse;
  /* Sums of dy · (x - mean) · inverse and of dy, a row of columns for each part of the matrix's rows; or NULL. */
  float *weight_partials, *bias_partials;
  int partial_rows;
} NormalizeBackwardPlan;
/* Fills in partial_rows. */
void normalize_backward_shape(NormalizeBackwardPlan *plan, int multiprocessors);
cudaError_t launch_normalize_backward(Launch launch, const NormalizeBackwardPlan *plan);

/* out[i] = x[i] times 0 or `scale`, by whether u[i] is below the probability: backend.h, dropout. */
cudaError_t launch_dropout(Launch launch, void *out, const void *x, DType dtype, int64_t count, float probability,
                           RandomSource source);

/* --- attention --- */

/* (batch, heads, positions, features) of 2-byte elements with features side by side; the other strides, in elements,
 * are multiples of 8, as is the address of 16 bytes. */
typedef struct AttentionOperand {
  void *data;
  int64_t batch, head, position;
} AttentionOperand;

typedef struct AttentionPlan {
  DType dtype; /* f16 or bf16 */
  int64_t batch, heads;
  int queries, keys, features; /* features: 32, 64 or 128; the others at least 1 */
  float scale, scale_log2;     /* scale_log2 = scale · log2(e) */
  bool causal;                 /* query i sees keys up to i + keys - queries, which is at least 0 */
  AttentionOperand q, k, v, y;
  AttentionOperand dy, dq, dk, dv; /* of the backward pass */
  float *log_sums, *deltas;        /* (batch, heads, queries); deltas: scratch of the backward pass */
} AttentionPlan;

/* y and log_sums. */
cudaError_t launch_attention(Launch launch, const AttentionPlan *plan);
/* dq, dk and dv, from y and log_sums too. */
cudaError_t launch_attention_backward(Launch launch, const AttentionPlan *plan);

/* --- indexing --- */

/* The shapes of backend.h: `length` is the indexed dimension's size, `picks` how many positions are picked in it. */
typedef struct IndexPlan {
  const void *index;
  DType index_dtype;
  int64_t outer, length, picks, inner;
  FaultWord *fault;
} IndexPlan;

/* `inner` counts words of `word_bytes` (1, 2, 4, 8 or 16) here. */
cudaError_t launch_index_select(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan);
/* Writes all of `out`, of f32, f16 or bf16; length below 2^31. narrow_index: room for `picks` entries. */
cudaError_t launch_index_add(Launch launch, void *out, DType out_dtype, const void *x, DType dtype,
                             int32_t *narrow_index, const IndexPlan *plan);
cudaError_t launch_gather(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan);
cudaError_t launch_scatter_add(Launch launch, float *out, const void *x, DType dtype, const IndexPlan *plan);

/* --- around products --- */

/* bf16 values of float8 codes, all exact. */
cudaError_t launch_widen_codes(Launch launch, uint16_t *out, const uint8_t *codes, DType format, int64_t count);
/* out[i] = value[0] for i < count. */
cudaError_t launch_expand_scale(Launch launch, float *out, const float *value, int64_t count);
/* out[r][c] = product[r][c] · scale_a[r · row_step] · scale_b[c · column_step] + bias[c], rounded once. A NULL product
 * counts as 0; scale_a and scale_b may both be NULL, bias (of out's dtype) too; an f32 out may be the product. */
typedef struct FinishPlan {
  void *out;
  DType dtype;
  const float *product;
  int64_t rows, columns;
  const float *scale_a, *scale_b;
  int row_step, column_step; /* 1, or 0 for a scale that is one number */
  const void *bias;
} FinishPlan;
cudaError_t launch_finish_product(Launch launch, const FinishPlan *plan);

/* --- optimizer steps (backend.h), and the norm of gradients: work on lists of tensors --- */

/* A list is an argument of its kernels, of which 4 KB are possible everywhere; longer ones take several launches. Work
 * is divided by elements: a tile of a tensor goes to one thread block. */
enum { LIST_TENSORS = 64, LIST_TILE = 8192, LIST_BLOCK = 256 };

typedef struct ListedTensor {
  void *data; /* the parameter, or a gradient to be scaled */
  const void *grad;
  float *first, *second, *master; /* or NULL */
  int64_t count;                  /* at least 1 */
  int first_tile;                 /* the tiles of a list are numbered through */
  uint8_t dtype;                  /* of data and grad */
  bool vectors;                   /* whether all addresses suit vectors of 16 bytes, or of four elements in an update */
} ListedTensor;

typedef struct TensorList {
  int tensors, tiles;
  ListedTensor tensor[LIST_TENSORS];
} TensorList;

typedef struct UpdatePlan {
  UpdateRule rule;
  UpdateStep step;
  const UpdateStep *live; /* read instead of the step; or NULL */
  float *partials;        /* STABLE_ADAMW: room for one number a tile … */
  float *divisors;        /* … and one a tensor; else NULL */
  TensorList list;
} UpdatePlan;

cudaError_t launch_update(Launch launch, const UpdatePlan *plan);

/* partials[tile] = the sum of the squares of `data` there. */
cudaError_t launch_squares(Launch launch, const TensorList *list, float *partials);
/* norm[0] = the root of the sum of all partials. */
cudaError_t launch_norm(Launch launch, const float *partials, int64_t count, float *norm);
/* data *= min(1, largest / (norm[0] + 1e-6)) */
cudaError_t launch_clip(Launch launch, const TensorList *list, const float *norm, float largest);

cudaError_t launch_store_fields(Launch launch, float *out, const float *fields, int count);

#ifdef __cplusplus
}
#endif

#endif
