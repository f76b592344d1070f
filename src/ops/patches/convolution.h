/* What convolutions and their gradients share: how they are computed, and steps of that for some images at a time. */
#ifndef FP8_OPS_PATCHES_CONVOLUTION_H
#define FP8_OPS_PATCHES_CONVOLUTION_H

#include "ops/patches/window.h"

/* y (outputs, images · patches) = W (outputs, length) · patches (length, images · patches), for each group. Sizes of a
 * group have a g. */
typedef struct ConvolutionPlan {
  const Backend *backend;
  Window window;
  DType dtype;
  Device device;
  int64_t images, channels, outputs, groups;
  int64_t length, g_length; /* of a patch */
  int64_t g_channels, g_outputs;
  int64_t patches; /* of an image */
  int64_t chunk;   /* so many images at a time, that their patches stay in a cache */
  bool whole;      /* the patches are the elements of x, in their order */
} ConvolutionPlan;

/* Fails unless x, the weight and the window fit. */
bool convolution_plan(ConvolutionPlan *plan, const Convolution *convolution);
/* The rest of a plan whose window, sizes and groups are set. Fails if sizes overflow. */
bool convolution_finish_plan(ConvolutionPlan *plan);

/* Without patches, where the backend can: *done says whether it was. */
bool convolve(const ConvolutionPlan *plan, ConvolutionResult result, const Tensor *x, const Tensor *weight,
              const Tensor *y, bool *done);

/* A borrowed view of `count` images from `first` on. */
Tensor images_of(const Tensor *x, int64_t first, int64_t count);
/* A borrowed view of contiguous memory as (groups, rows, columns). */
Tensor matrices(const Tensor *x, int64_t groups, int64_t rows, int64_t columns);
/* Such matrices transposed, with strides as a backend takes them (backend.h, matmul). */
Tensor turned(const Tensor *x);
/* Makes *out new matrices of so many columns for each of the plan's groups. */
bool create_matrices(Tensor *out, const ConvolutionPlan *plan, int64_t rows, int64_t columns);

/* Makes *wide the matrices (channels of a group, images · elements) of images (images, channels, height, width). */
bool widen_images(const ConvolutionPlan *plan, Tensor *wide, const Tensor *x);
/* Makes *patches those of images, (length of a group, images · patches) for each. */
bool unfold_images(const ConvolutionPlan *plan, Tensor *patches, const Tensor *x);
/* x, the sum of such patches. */
bool fold_images(const ConvolutionPlan *plan, Tensor *x, const Tensor *patches);
/* y (images, outputs, height, width) = weight · patches + bias, which may be NULL. */
bool multiply_images(const ConvolutionPlan *plan, Tensor *y, const Tensor *weight, const Tensor *patches,
                     const Tensor *bias);

#endif
