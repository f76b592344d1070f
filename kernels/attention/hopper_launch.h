/* The way from attention's kernels to those for Hopper. */
#ifndef FP8_ATTENTION_HOPPER_LAUNCH_H
#define FP8_ATTENTION_HOPPER_LAUNCH_H

#include "attention/attention.h"

/* As launch_attention and launch_attention_backward, of plans that ask for it. cudaErrorNotSupported:
 * the operands can't be copied in bulk, nothing was launched. */
cudaError_t launch_hopper_attention(Launch launch, const AttentionPlan &plan);
cudaError_t launch_hopper_attention_backward(Launch launch, const AttentionPlan &plan);

#endif
