/* The norm of gradients, and scaling them down to a largest one. */
#include <stdio.h>
#include <stdlib.h>

#include "ops/support/apart.h"

static bool check_scalable(Tensor *const *list, int count) {
  Extent *extent = host_allocate_zeroed((size_t)count, sizeof *extent);
  if (!extent) return false;
  bool right = true;
  int extents = 0;
  for (int i = 0; right && i < count; i++) {
    right = same_device(list[0], list[i]) && check_writable(list[i]);
    char name[32];
    snprintf(name, sizeof name, "gradient %d", i + 1);
    right = right && check_compute_float(list[i]->dtype, name);
    if (right && tensor_is_contiguous(list[i])) extent[extents++] = extent_of(list[i], true);
  }
  right = right && check_apart(extent, extents);
  free(extent);
  return right;
}

/* `contiguous` has room for a view or a copy of each, and `ready` for a pointer to it. */
static bool clip(Tensor *norm, Tensor *const *list, int measured, int count, double largest, Tensor *contiguous,
                 Tensor **ready) {
  for (int i = 0; i < count; i++) {
    if (!op_contiguous(&contiguous[i], list[i])) return false;
    ready[i] = &contiguous[i];
  }
  const Backend *backend = backend_for(norm);
  int scaled = measured < count ? measured : 0; /* the first that is */
  if (!backend->clip_norm(norm, ready, measured, scaled, count, (float)largest)) return false;
  bool done = true;
  for (int i = scaled; i < count; i++) {
    if (contiguous[i].storage != list[i]->storage) done = backend->copy(list[i], &contiguous[i], true) && done;
    tensor_changed(list[i]);
  }
  return done;
}

bool op_clip_norm(Tensor *norm, Tensor *const *list, int measured, int count, double largest) {
  if (measured == 0) return error_set("a list of at least one gradient is needed");
  if (!(largest >= 0)) return error_set("the largest norm must be a number of at least 0, got %g", largest);
  Tensor created = {0};
  if (!check_scalable(list, count) || !tensor_create(&created, DTYPE_F32, tensor_device(list[0]), 0, NULL)) {
    return false;
  }
  Tensor *contiguous = host_allocate_zeroed((size_t)count, sizeof *contiguous);
  Tensor **ready = contiguous ? host_allocate_zeroed((size_t)count, sizeof *ready) : NULL;
  bool done = ready && clip(&created, list, measured, count, largest, contiguous, ready);
  for (int i = 0; contiguous && i < count; i++) tensor_release(&contiguous[i]);
  free(ready);
  free(contiguous);
  return hand_over(norm, &created, done);
}
