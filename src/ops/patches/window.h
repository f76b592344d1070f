/* What the operations with windows share. */
#ifndef FP8_OPS_PATCHES_WINDOW_H
#define FP8_OPS_PATCHES_WINDOW_H

#include "ops/support/support.h"

/* Fails unless x is (images, channels, height, width). */
bool check_images(const Tensor *x);

/* Gives the window the last two sizes of an image, and the numbers of its outputs; adaptive ones have theirs. Fails where
 * there is no place for it. `ceil`: a last window may begin inside and end outside, as PyTorch's ceil_mode has it. */
bool fit_window(Window *window, const int64_t *image, bool ceil);

/* The length of a patch, channels · kernel sides, and how many patches an image has. Fails if either overflows. */
bool patch_sizes(const Window *window, int64_t channels, int64_t *length, int64_t *patches);

/* A borrowed view as (images, channels, kernel_y, kernel_x, output_y, output_x) of patches that lie so far apart: images,
 * elements of a patch, and patches. */
Tensor patches_view(const Tensor *patches, const Window *window, int64_t images, int64_t channels,
                    const int64_t stride[3]);

#endif
