/* Fused attention: what its kernels take, and their plans. */
#include "attention/attention.h"

#include "cuda/measure.h"

/* The features of a head side by side, everything else at multiples of 16 bytes. */
static bool is_suitable(const Tensor *x) {
  enum { VECTOR = 8 };
  if (x->stride[3] != 1 || !is_aligned(tensor_data(x), 16)) return false;
  for (int d = 0; d < 3; d++) {
    if (x->stride[d] % VECTOR != 0) return false;
  }
  return true;
}

bool cuda_attends(const Tensor *q, const Tensor *k, const Tensor *v) {
  int64_t features = q->size[3], most = (int64_t)1 << 30, tile = 64;
  if (q->dtype != DTYPE_F16 && q->dtype != DTYPE_BF16) return false;
  if (features != 32 && features != 64 && features != 128) return false;
  if (tensor_count(q) == 0 || tensor_count(k) == 0 || q->size[2] > most || k->size[2] > most) return false;
  int64_t positions = q->size[2] > k->size[2] ? q->size[2] : k->size[2];
  return q->size[0] * q->size[1] <= most / divide_up(positions, tile) && is_suitable(q) && is_suitable(k) &&
         is_suitable(v);
}

static AttentionOperand operand_of(const Tensor *x) {
  return (AttentionOperand){tensor_data(x), x->stride[0], x->stride[1], x->stride[2]};
}

static AttentionMask mask_of(const Tensor *x) {
  if (!x) return (AttentionMask){0};
  return (AttentionMask){tensor_data(x), x->dtype, x->stride[0], x->stride[1], x->stride[2], x->stride[3]};
}

/* So many heads that the cache of a data center's GPU, 40 MB or more, holds their keys and values, which so many share. */
static int heads_at_once(const Tensor *k, int64_t group) {
  int64_t heads = k->size[0] * k->size[1], bytes = 2 * 2 * k->size[2] * k->size[3], fit = ((int64_t)32 << 20) / bytes;
  return (int)(group * (fit < 1 ? 1 : fit < heads ? fit : heads));
}

static bool hopper_is_on(void) {
  static int on = -1;
  if (on < 0) on = cuda_setting("FP8_HOPPER", true);
  return on;
}

static bool suits_hopper(const CudaDevice *device, const Attention *attention) {
  return device->capability == 90 && attention->q->size[3] >= 64 && attention->scale > 0 && has_hopper_attention() &&
         hopper_is_on();
}

static AttentionPlan plan_of(const CudaDevice *device, const Tensor *y, const Tensor *log_sums,
                             const Attention *attention) {
  const Tensor *q = attention->q;
  int64_t group = q->size[1] / attention->k->size[1];
  return (AttentionPlan){.dtype = q->dtype,
                         .batch = q->size[0],
                         .heads = q->size[1],
                         .group = (int)group,
                         .queries = (int)q->size[2],
                         .keys = (int)attention->k->size[2],
                         .features = (int)q->size[3],
                         .heads_at_once = heads_at_once(attention->k, group),
                         .hopper = suits_hopper(device, attention),
                         .scale = attention->scale,
                         .scale_log2 = (float)(attention->scale * M_LOG2E),
                         .causal = attention->causal,
                         .q = operand_of(q),
                         .k = operand_of(attention->k),
                         .v = operand_of(attention->v),
                         .mask = mask_of(attention->mask),
                         .y = operand_of(y),
                         .log_sums = tensor_data(log_sums)};
}

/* Has the kernels find the largest magnitudes of `out`, all of which they write. */
static bool find_maxima(AttentionPlan *plan, const CudaDevice *device, const Tensor *out) {
  enum { BYTES = ATTENTION_MAXIMA * sizeof *plan->maxima };
  return cuda_note_maxima(device, out, ATTENTION_MAXIMA, &plan->maxima) &&
         (!plan->maxima ||
          cuda_check(cudaMemsetAsync(plan->maxima, 0, BYTES, device->launch.stream), "cudaMemsetAsync"));
}

/* Whether the gradients are, together, all of one storage. */
static bool share_storage(const AttentionGradients *gradients) {
  const Storage *storage = gradients->q->storage;
  int64_t count = tensor_count(gradients->q) + tensor_count(gradients->k) + tensor_count(gradients->v);
  return gradients->k->storage == storage && gradients->v->storage == storage &&
         (size_t)(count * dtype_size(gradients->q->dtype)) == storage->bytes;
}

bool cuda_attention(Tensor *y, Tensor *log_sums, const Attention *attention) {
  CudaDevice *device = cuda_tensor_device(y);
  if (!device) return false;
  AttentionPlan plan = plan_of(device, y, log_sums, attention);
  return find_maxima(&plan, device, y) &&
         cuda_launched(device, launch_attention(device->launch, &plan), "attention kernel");
}

bool cuda_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward) {
  CudaDevice *device = cuda_tensor_device(backward->dy);
  Tensor deltas = {0};
  if (!device || !cuda_scratch(&deltas, device, tensor_count(backward->log_sums) * (int64_t)sizeof(float)))
    return false;
  AttentionPlan plan = plan_of(device, backward->y, backward->log_sums, &backward->forward);
  plan.dy = operand_of(backward->dy);
  plan.dq = operand_of(gradients->q);
  plan.dk = operand_of(gradients->k);
  plan.dv = operand_of(gradients->v);
  plan.deltas = tensor_data(&deltas);
  bool done = (!share_storage(gradients) || find_maxima(&plan, device, gradients->q)) &&
              cuda_launched(device, launch_attention_backward(device->launch, &plan), "attention kernel");
  tensor_release(&deltas);
  return done;
}
