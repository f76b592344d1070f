/* The launchers of attention, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_ATTENTION_H
#define FP8_KERNELS_ATTENTION_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* (batch, heads, positions, features) of 2-byte elements with features side by side; the other strides, in elements,
 * are multiples of 8, as is the address of 16 bytes. */
typedef struct AttentionOperand {
  void *data;
  int64_t batch, head, position;
} AttentionOperand;

/* core/operations.h, Attention: element strides of (batch, heads, queries, keys); no data is no mask. */
typedef struct AttentionMask {
  const void *data;
  DType dtype;
  int64_t batch, head, query, key;
} AttentionMask;

enum { ATTENTION_MAXIMA = 256 };

typedef struct AttentionPlan {
  DType dtype; /* f16 or bf16 */
  int64_t batch, heads;
  int group;                   /* heads of q that share one of k and v; dk and dv have one for each of q */
  int queries, keys, features; /* features: 32, 64 or 128; the others at least 1 */
  int heads_at_once;           /* at least 1: batch · heads are gone through in sections of so many */
  bool hopper;                 /* has_hopper_attention(), 64 or 128 features, scale above 0 */
  float scale, scale_log2;     /* scale_log2 = scale · log2(e) */
  bool causal;                 /* query i sees keys up to i + keys - queries, which is at least 0 */
  AttentionOperand q, k, v, y;
  AttentionMask mask;
  AttentionOperand dy, dq, dk, dv; /* of the backward pass */
  float *log_sums, *deltas;        /* (batch, heads, queries); deltas: scratch of the backward pass */
  uint32_t *maxima;                /* ATTENTION_MAXIMA words, 0 before: of y, or of dq, dk and dv together; or NULL */
} AttentionPlan;

/* Whether this library has code for the tensor cores of devices of compute capability 9.0; asked while one is current. */
bool has_hopper_attention(void);

/* y and log_sums. */
cudaError_t launch_attention(Launch launch, const AttentionPlan *plan);
/* dq, dk and dv, from y and log_sums too. */
cudaError_t launch_attention_backward(Launch launch, const AttentionPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
