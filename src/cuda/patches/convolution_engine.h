/* What computes a convolution: one of cuDNN's engines, chosen once for each shape, dtype and alignment. */
#ifndef FP8_CUDA_CONVOLUTION_ENGINE_H
#define FP8_CUDA_CONVOLUTION_ENGINE_H

#include "cuda/patches/cudnn.h"

/* All that the choice of an engine depends on. No padding, so that keys compare as bytes. */
typedef struct ConvolutionProblem {
  int64_t images, channels, outputs, groups;
  int32_t input[2], output[2], kernel[2], stride[2], dilation[2], before[2], after[2];
  uint8_t alignment_x, alignment_weight, alignment_y; /* bytes */
  uint8_t dtype, weight_dtype, result;
  uint8_t deterministic; /* the heuristic's first choice, in every run */
  uint8_t unused;
} ConvolutionProblem;

_Static_assert(sizeof(ConvolutionProblem) == 4 * 8 + 14 * 4 + 8, "no padding");

/* An engine with its settings. */
typedef struct ConvolutionChoice {
  CudnnDescriptor config;
  CudnnDescriptor plan; /* NULL before it is needed */
  int64_t workspace;    /* bytes, of the plan */
} ConvolutionChoice;

enum { CONVOLUTION_CHOICES = 8, CONVOLUTION_DESCRIPTORS = 6 };

/* What was found for a problem. */
typedef struct ConvolutionEngine {
  struct ConvolutionEngine *next; /* in its bucket */
  ConvolutionProblem problem;
  uint32_t uses;
  bool tuned;
  int count; /* of choices: the first is taken and has its plan; without any, there is no engine */
  ConvolutionChoice choices[CONVOLUTION_CHOICES];
  int descriptor_count;
  CudnnDescriptor descriptors[CONVOLUTION_DESCRIPTORS];
} ConvolutionEngine;

/* A convolution about to be enqueued. */
typedef struct ConvolutionRun {
  CudaDevice *device;
  const Cudnn *cudnn;
  CudnnHandle handle;
  const ConvolutionTensors *tensors;
} ConvolutionRun;

/* The problem's engine; NULL with an error. */
ConvolutionEngine *convolution_engine_make(const ConvolutionRun *run, const ConvolutionProblem *problem);
void convolution_engine_release(const Cudnn *cudnn, ConvolutionEngine *engine);

/* Gives a choice its plan; false where it can't be computed. */
bool convolution_choice_plan(const ConvolutionRun *run, ConvolutionChoice *choice);
void convolution_choice_release(const Cudnn *cudnn, ConvolutionChoice *choice);

/* Enqueues a choice that has its plan; false with an error. */
bool convolution_execute(const ConvolutionRun *run, const ConvolutionChoice *choice);

/* Times the choices on the tensors of the run and leaves the engine the fastest; the tensor that is computed gets any of
 * their results. Changes nothing where anything fails. */
void convolution_tune(const ConvolutionRun *run, ConvolutionEngine *engine);

#endif
