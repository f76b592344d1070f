/* Patches of images, and the sums of patches: im2col and col2im. */
#include "ops/patches/window.h"

bool op_unfold(Tensor *out, const Tensor *x, Window window, bool by_rows) {
  int64_t length, patches;
  if (!check_images(x) || !fit_window(&window, &x->size[2], false) ||
      !patch_sizes(&window, x->size[1], &length, &patches)) {
    return false;
  }
  Tensor created = {0}, input = {0};
  const int64_t size[] = {x->size[0], by_rows ? patches : length, by_rows ? length : patches};
  if (!tensor_create(&created, x->dtype, tensor_device(x), 3, size)) return false;
  const int64_t stride[] = {length * patches, by_rows ? 1 : patches, by_rows ? length : 1};
  Tensor target = patches_view(&created, &window, x->size[0], x->size[1], stride);
  bool done = op_contiguous(&input, x) && backend_for(x)->unfold(&target, &input, &window);
  tensor_release(&input);
  return hand_over(out, &created, done);
}

/* `patches`, or a copy in which those of an image lie side by side. */
static bool side_by_side(Tensor *out, const Tensor *patches) {
  if (patches->size[2] > 1 && patches->stride[2] != 1) return copy_contiguous(out, patches);
  tensor_share(out, patches);
  return true;
}

bool op_fold(Tensor *out, const Tensor *patches, const int64_t *size, Window window) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  int64_t length, count;
  if (!check_compute_float(patches->dtype, "dtype") || !fit_window(&window, &size[2], false) ||
      !patch_sizes(&window, size[1], &length, &count)) {
    return false;
  }
  bool fits =
      patches->rank == 3 && patches->size[0] == size[0] && patches->size[1] == length && patches->size[2] == count;
  if (!fits) {
    return error_set("patches of shape (%lld, %lld, %lld) are needed, got %s", (long long)size[0], (long long)length,
                     (long long)count, tensor_shape_text(patches, text));
  }
  Tensor created = {0}, source = {0};
  if (!tensor_create(&created, patches->dtype, tensor_device(patches), 4, size)) return false;
  bool done = side_by_side(&source, patches);
  if (done) {
    Tensor view = patches_view(&source, &window, size[0], size[1], source.stride);
    done = backend_for(patches)->fold(&created, &view, &window);
  }
  tensor_release(&source);
  return hand_over(out, &created, done);
}
