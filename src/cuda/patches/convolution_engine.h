/* What computes a convolution: one of cuDNN's engines, chosen once for each shape, dtype and alignment. */
#ifndef FP8_CUDA_CONVOLUTION_ENGINE_H
#define FP8_CUDA_CONVOLUTION_ENGINE_H

#include "cuda/patches/cudnn.h"

/* All that the choice of an engine depends on. No padding, so that keys compare as bytes. */
typedef struct ConvolutionProblem {
  int64_t images, channels, outputs, groups;
  int32_t input[2], output[2], kernel[2], stride[2], dilation[2], before[2], after[2];
  uint8_t alignment_x, alignment_weight, alignment_y; /* bytes */
  uint8_t dtype, weight_dtype, result, unused[2];
} ConvolutionProblem;

_Static_assert(sizeof(ConvolutionProblem) == 4 * 8 + 14 * 4 + 8, "no padding");

enum { CONVOLUTION_DESCRIPTORS = 8 };

/* What was found for a problem. */
typedef struct ConvolutionEngine {
  struct ConvolutionEngine *next; /* in its bucket */
  ConvolutionProblem problem;
  CudnnDescriptor plan; /* NULL: there is no engine */
  int64_t workspace;    /* bytes */
  int count;
  CudnnDescriptor descriptors[CONVOLUTION_DESCRIPTORS];
} ConvolutionEngine;

/* A convolution about to be enqueued. */
typedef struct ConvolutionRun {
  CudaDevice *device;
  const Cudnn *cudnn;
  CudnnHandle handle;
  const ConvolutionTensors *tensors;
} ConvolutionRun;

/* The problem's engine, with a plan or without one; NULL with an error. */
ConvolutionEngine *convolution_engine_make(const ConvolutionRun *run, const ConvolutionProblem *problem);
void convolution_engine_release(const Cudnn *cudnn, ConvolutionEngine *engine);

/* Enqueues what has a plan; false with an error. */
bool convolution_execute(const ConvolutionRun *run, const ConvolutionEngine *engine);

#endif
