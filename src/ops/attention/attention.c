/* Attention by a device's fused kernel, where it has one. */
#include "ops/support/support.h"

/* Whether q, k and v are (batch, heads, positions, features) that go together and that the device has a kernel for. */
static bool has_kernel(const Tensor *q, const Tensor *k, const Tensor *v, bool causal) {
  const Backend *backend = backend_for(q);
  bool fits = q->rank == 4 && k->rank == 4 && tensor_same_shape(k, v) && q->dtype == k->dtype && q->dtype == v->dtype;
  fits = fits && q->size[0] == k->size[0] && q->size[3] == k->size[3] && k->size[1] > 0 && q->size[1] % k->size[1] == 0;
  return fits && (!causal || q->size[2] <= k->size[2]) && backend->attends && backend->attends(q, k, v);
}

/* Makes *out a borrowed view of the mask of the scores' shape, and attention->mask that, if there is one. q and k go
 * together. */
static bool expand_mask(Tensor *out, Attention *attention) {
  char text[TENSOR_SHAPE_TEXT_MAX], expected[TENSOR_SHAPE_TEXT_MAX];
  const Tensor *mask = attention->mask;
  if (!mask) return true;
  if (mask->dtype != DTYPE_U8 && !check_compute_float(mask->dtype, "the mask")) return false;
  if (!same_device(attention->q, mask)) return false;
  Tensor scores = *attention->q;
  scores.size[3] = attention->k->size[2];
  int rank = mask->rank, added = 4 - rank;
  bool fits = rank <= 4;
  for (int d = 0; d < rank && fits; d++) fits = mask->size[d] == 1 || mask->size[d] == scores.size[added + d];
  if (!fits) {
    return error_set("the mask must broadcast to %s, got shape %s", tensor_shape_text(&scores, expected),
                     tensor_shape_text(mask, text));
  }
  *out = expanded(mask, 4, scores.size);
  attention->mask = out;
  return true;
}

bool op_attention(Tensor *y, Tensor *log_sums, const Attention *attention, bool *done) {
  const Tensor *q = attention->q, *k = attention->k, *v = attention->v;
  *done = false;
  if (!same_device(q, k) || !same_device(q, v)) return false;
  if (!has_kernel(q, k, v, attention->causal)) return true;
  Attention taken = *attention;
  Tensor mask = {0};
  if (!expand_mask(&mask, &taken)) return false;
  /* The heads of a position lie side by side, as the layer after them wants it. */
  int64_t size[4] = {q->size[0], q->size[2], q->size[1], q->size[3]};
  Tensor result = {0}, sums = {0};
  *done = tensor_create(&result, q->dtype, tensor_device(q), 4, size) &&
          tensor_create(&sums, DTYPE_F32, tensor_device(q), 3, q->size);
  if (*done) result = transposed(&result, 1, 2);
  *done = *done && backend_for(q)->attention(&result, &sums, &taken);
  hand_over(log_sums, &sums, *done);
  return hand_over(y, &result, *done);
}

static bool check_like(const Tensor *x, const Tensor *model, const char *name) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(x, model)) return false;
  if (x->dtype == model->dtype && tensor_same_shape(x, model)) return true;
  return error_set("%s must be %s of shape %s, got %s of shape %s", name, dtype_name(model->dtype),
                   tensor_shape_text(model, first), dtype_name(x->dtype), tensor_shape_text(x, second));
}

bool op_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward) {
  const Tensor *q = backward->forward.q, *k = backward->forward.k, *v = backward->forward.v;
  const Tensor *y = backward->y, *dy = backward->dy, *log_sums = backward->log_sums;
  Tensor *outputs[3] = {gradients->q, gradients->k, gradients->v};
  if (!same_device(q, k) || !same_device(q, v) || !same_device(q, log_sums) || !check_like(y, q, "y") ||
      !check_like(dy, q, "dy") || !check_like(outputs[0], q, "dq")) {
    return false;
  }
  Tensor each = *k; /* a part for each head of q */
  each.size[1] = q->size[1];
  if (!check_like(outputs[1], &each, "dk") || !check_like(outputs[2], &each, "dv")) return false;
  if (log_sums->dtype != DTYPE_F32 || tensor_count(log_sums) != q->size[0] * q->size[1] * q->size[2] ||
      !tensor_is_contiguous(log_sums)) {
    return error_set("log_sums must be what attention returned");
  }
  for (int i = 0; i < 3; i++) {
    if (!check_writable(outputs[i])) return false;
  }
  if (!has_kernel(q, k, v, backward->forward.causal) || !has_kernel(y, y, y, false) ||
      !has_kernel(outputs[0], outputs[1], outputs[2], false)) {
    return error_set("there is no kernel for these tensors");
  }
  /* dy comes from anywhere, and may begin where the kernel takes no tensor. */
  Tensor copied = {0};
  AttentionBackward taken = *backward;
  Tensor mask = {0};
  if (!expand_mask(&mask, &taken.forward)) return false;
  if (!has_kernel(dy, dy, dy, false)) {
    if (!copy_contiguous(&copied, dy)) return false;
    taken.dy = &copied;
  }
  for (int i = 0; i < 3; i++) tensor_changing(outputs[i]);
  bool done = backend_for(q)->attention_backward(gradients, &taken);
  tensor_release(&copied);
  return done;
}
