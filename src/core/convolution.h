/* What a backend may compute of convolutions without patches. */
#ifndef FP8_CORE_CONVOLUTION_H
#define FP8_CORE_CONVOLUTION_H

#include "core/tensor.h"
#include "core/window.h"

/* Which tensor of a convolution is computed from the other two: the output; or, from its gradient, that of the input or of
 * the weight. */
typedef enum ConvolutionResult { CONVOLUTION_OUTPUT, CONVOLUTION_INPUT, CONVOLUTION_WEIGHT } ConvolutionResult;

/* x (images, channels, height, width), weight (outputs, channels / groups, kernel_y, kernel_x) and y (images, outputs,
 * output_y, output_x), or gradients of that form. */
typedef struct ConvolutionTensors {
  ConvolutionResult result;
  Window window;
  const Tensor *x, *weight, *y;
} ConvolutionTensors;

#endif
