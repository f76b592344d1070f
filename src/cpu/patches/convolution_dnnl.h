/* Convolutions through oneDNN. */
#ifndef FP8_CPU_CONVOLUTION_DNNL_H
#define FP8_CPU_CONVOLUTION_DNNL_H

#include "core/convolution.h"

enum { CONVOLUTION_X, CONVOLUTION_KERNEL, CONVOLUTION_Y, CONVOLUTION_TENSORS };

/* Which of them it is. */
int convolution_result_tensor(ConvolutionResult result);

/* A convolution (core/convolution.h) of contiguous memory: f32, or bf16 where the processor has instructions for it. */
typedef struct DirectConvolution {
  ConvolutionResult result;
  Window window;
  int64_t images, channels, outputs, groups;
  DType dtype, kernel_dtype;       /* the kernel's is dtype, or f32 if it is the result */
  void *data[CONVOLUTION_TENSORS]; /* two of them are read */
} DirectConvolution;

/* *done: false where oneDNN has nothing fast; the result may have been written to. False after an error. */
bool convolution_dnnl(const DirectConvolution *convolution, bool *done);

#endif
