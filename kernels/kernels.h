/* The launchers of CUDA kernels and the plain descriptors they take: here those of subjects that are one file, in the
 * folders those of the others. src/cuda makes descriptors from tensors; nothing here knows a Tensor. A launcher only
 * enqueues work on `launch.stream`; it returns what cudaGetLastError says, and does nothing for empty outputs. */
#ifndef FP8_KERNELS_H
#define FP8_KERNELS_H

#include <cuda_runtime_api.h>

#include "core/arange.h"
#include "core/formats/scale.h"
#include "core/operations.h"
#include "core/random.h"

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
  FAULT_SCATTER,
  FAULT_KIND_COUNT
} FaultKind;

/* A word in mapped host memory: 0, or the kind in the low 8 bits and the offending index above them. */
typedef volatile long long FaultWord;

/* --- numbers made from nothing but their position --- */

/* out[i] = start + i · step. */
cudaError_t launch_arange(Launch launch, void *out, DType dtype, int64_t count, ArangeRule rule);

cudaError_t launch_random(Launch launch, void *out, DType dtype, int64_t count, const RandomDraw *draw);

/* --- reductions --- */

/* Each of `outputs` results (over the kept dimensions) reduces `length` elements (over the reduced ones), in `splits`
 * chunks of `chunk` elements that are combined by a second kernel through `partials`. Dimensions are merged where
 * possible. */
typedef struct ReducePlan {
  ReduceOp op;
  double correction; /* of VAR and STD */
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
  bool vectorize; /* f32, f16 or bf16: 16 bytes at a time, of neighbouring elements, or outputs if `columns` */
  int64_t splits, chunk;
  void *partials; /* splits · outputs · REDUCE_PARTIAL_BYTES, if splits > 1 */
} ReducePlan;

enum { REDUCE_PARTIAL_BYTES = 16 };

cudaError_t launch_reduce(Launch launch, const ReducePlan *plan);

/* One pass over a matrix of f32, f16 or bf16, at a multiple of 16 bytes, of whole 16-byte vectors a row: the largest
 * magnitudes of what each thread block read, or column sums, or both. */
typedef struct MeasurePlan {
  const void *x;
  DType dtype;
  int64_t rows, columns;
  bool summing;           /* with partials */
  int strips, row_groups; /* the grid: strips of columns, and how many thread blocks share one */
  uint32_t *maxima;       /* strips · row_groups words, or NULL */
  float *partials;        /* row_groups rows of `columns`, or NULL */
} MeasurePlan;
/* Fills in the grid. */
void measure_shape(MeasurePlan *plan, int multiprocessors);
cudaError_t launch_measure(Launch launch, const MeasurePlan *plan);
/* Column sums of at most MEASURE_FEW_ROWS rows, into `out` at once. */
enum { MEASURE_FEW_ROWS = 1024 };
cudaError_t launch_sum_few_rows(Launch launch, const MeasurePlan *plan, void *out, DType dtype);

/* out[c] = the sum over all rows of partials[row][c], [c + columns], [c + 2 · columns], … below `width`, a multiple of
 * `columns`. */
typedef struct FinishSumPlan {
  const float *partials;
  int64_t rows, width, columns;
  void *out;
  DType dtype;
} FinishSumPlan;
cudaError_t launch_finish_sum(Launch launch, const FinishSumPlan *plan);

/* --- rows of a matrix --- */

/* A contiguous matrix of any float dtype. */
typedef struct MatrixRows {
  void *data;
  DType dtype;
  int64_t rows, columns;
} MatrixRows;

/* `queries`: the rows of a matrix, if causal. `out` may be `x`, `dx` may be `dy`. */
cudaError_t launch_softmax(Launch launch, MatrixRows out, MatrixRows x, SoftmaxRule rule, int64_t queries);
cudaError_t launch_softmax_backward(Launch launch, MatrixRows dx, MatrixRows dy, MatrixRows y, SoftmaxRule rule,
                                    int64_t queries);

/* core/operations.h, of contiguous tensors. */
typedef struct CrossEntropyPlan {
  MatrixRows logits;
  const void *target;
  DType target_dtype;
  const float *weight; /* NULL: ones */
  float smoothing;
  bool ignores;
  int64_t ignored;
  float *statistics; /* (rows, 2); may be NULL for the gradient at once */
  FaultWord *fault;
  float *loss;   /* NULL in the backward pass */
  void *dlogits; /* of the logits' dtype; NULL in the forward pass, and for the maxima of the gradient alone */
  const float *dloss;
  int64_t dloss_stride; /* counts elements; may be 0 */
  uint32_t *maxima; /* of the gradient at once: a word for each of cross_entropy_gradient_grid's thread blocks, of what
                         * it wrote; or NULL */
} CrossEntropyPlan;

cudaError_t launch_cross_entropy(Launch launch, const CrossEntropyPlan *plan);
cudaError_t launch_cross_entropy_backward(Launch launch, const CrossEntropyPlan *plan);
/* Both at once; dlogits may be the logits. The grid: 0 where no maxima are found. */
int cross_entropy_gradient_grid(const CrossEntropyPlan *plan, int multiprocessors);
cudaError_t launch_cross_entropy_gradient(Launch launch, const CrossEntropyPlan *plan);

/* out[i] = x[i] times 0 or `scale`, by whether u[i] is below the probability: backend.h, dropout. */
cudaError_t launch_dropout(Launch launch, void *out, const void *x, DType dtype, int64_t count, float probability,
                           RandomSource source);

/* --- recurrent layers: core/operations.h, RecurrentStep and RecurrentBackward; contiguous, of f32, f16 or bf16 --- */

typedef struct RecurrentPlan {
  DType dtype;
  bool lstm;
  int64_t rows, hidden;
  const void *from_input, *from_hidden, *state; /* the state before; of the backward pass, too */
  void *hidden_after, *state_after, *saved;     /* hidden_after: of an LSTM; `saved` is read by the backward pass */
  const void *state_after_read;                 /* of the backward pass, an LSTM's, and grad_state_after */
  const void *grad_hidden, *grad_state_after;
  void *grad_from_input, *grad_from_hidden, *grad_state; /* grad_from_hidden: of a GRU */
} RecurrentPlan;

cudaError_t launch_recurrent_step(Launch launch, const RecurrentPlan *plan);
cudaError_t launch_recurrent_step_backward(Launch launch, const RecurrentPlan *plan);

/* --- around products --- */

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

/* backend.h, mend_triangle. A matrix of a batch, of any strides. */
typedef struct TriangleOperand {
  const void *data;
  DType dtype;
  int64_t batch, row, column; /* strides */
} TriangleOperand;

typedef struct TrianglePlan {
  void *out; /* (batch, rows, columns), contiguous */
  DType dtype;
  TriangleOperand a, b; /* (batch, rows, inner) and (batch, inner, columns) */
  int64_t batch, rows, inner, columns;
  bool lower;
} TrianglePlan;
cudaError_t launch_mend_triangle(Launch launch, const TrianglePlan *plan);

/* bf16 values of float8 codes, all exact. */
cudaError_t launch_widen_codes(Launch launch, uint16_t *out, const uint8_t *codes, DType format, int64_t count);
/* out[i] = value[0] for i < count. */
cudaError_t launch_expand_scale(Launch launch, float *out, const float *value, int64_t count);

/* --- delayed scaling --- */

/* backend.h, delayed_scale: `maxima` as of launch_measure. */
typedef struct DelayedPlan {
  float *scale, *history;
  int64_t length; /* of the history */
  const uint32_t *maxima;
  int maxima_count;
  ScaleRule rule;
  HistoryRecord record;
} DelayedPlan;
cudaError_t launch_delayed_scale(Launch launch, const DelayedPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
