#include "ops/patches/window.h"

bool check_images(const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  return x->rank == 4 ||
         error_set("a tensor (images, channels, height, width) is needed, got shape %s", tensor_shape_text(x, text));
}

static bool fit_axis(WindowAxis *axis, int64_t input, bool ceil) {
  if (input >= WINDOW_LIMIT) return error_set("size %lld is too large: below 2^29", (long long)input);
  axis->input = input;
  if (axis->adaptive) {
    return axis->output == 0 || input > 0 ||
           error_set("there are no elements to take %lld windows of", (long long)axis->output);
  }
  int64_t length = (axis->kernel - 1) * axis->dilation + 1, room = input + axis->before + axis->after - length;
  if (room < (ceil && input > 0 ? 1 - axis->stride : 0)) {
    return error_set("a kernel that spans %lld positions does not fit a size of %lld with a padding of %lld",
                     (long long)length, (long long)input, (long long)(axis->before + axis->after));
  }
  axis->output = (ceil ? divide_up(room, axis->stride) : room / axis->stride) + 1;
  if (ceil && (axis->output - 1) * axis->stride >= input + axis->before) axis->output--;
  return true;
}

bool fit_window(Window *window, const int64_t *image, bool ceil) {
  return fit_axis(&window->y, image[0], ceil) && fit_axis(&window->x, image[1], ceil);
}

bool patch_sizes(const Window *window, int64_t channels, int64_t *length, int64_t *patches) {
  if (__builtin_mul_overflow(window->y.kernel * window->x.kernel, channels, length) ||
      __builtin_mul_overflow(window->y.output, window->x.output, patches)) {
    return error_set("sizes are too large: they overflow 63 bits");
  }
  return true;
}

Tensor patches_view(const Tensor *patches, const Window *window, int64_t images, int64_t channels,
                    const int64_t stride[3]) {
  Tensor view = *patches;
  const WindowAxis *y = &window->y, *x = &window->x;
  const int64_t sizes[] = {images, channels, y->kernel, x->kernel, y->output, x->output};
  const int64_t strides[] = {
      stride[0], y->kernel * x->kernel * stride[1], x->kernel * stride[1], stride[1], x->output * stride[2], stride[2]};
  view.rank = 6;
  for (int d = 0; d < view.rank; d++) {
    view.size[d] = sizes[d];
    view.stride[d] = strides[d];
  }
  return view;
}
