/* What is used of cuDNN 9, declared here: its headers are no part of the CUDA Toolkit, and its library is looked for when it
 * is first needed. Names are cuDNN's without its prefix, numbers those of its binary interface ("Backend API" in its
 * reference): descriptors get attributes, are finalized, and then are read or used by others. */
#ifndef FP8_CUDA_CUDNN_H
#define FP8_CUDA_CUDNN_H

#include "cuda/cuda.h"

typedef struct cudnnContext *CudnnHandle;
typedef void *CudnnDescriptor;

/* The categories of statuses, in thousands. */
enum { CUDNN_SUCCESS = 0, CUDNN_BAD_PARAM = 2, CUDNN_NOT_SUPPORTED = 3 };

typedef enum CudnnKind {
  CUDNN_CONVOLUTION = 1,
  CUDNN_ENGINE = 2,
  CUDNN_ENGINE_CONFIG = 3,
  CUDNN_ENGINE_HEURISTIC = 4,
  CUDNN_EXECUTION_PLAN = 5,
  CUDNN_CONVOLUTION_FORWARD = 10,
  CUDNN_CONVOLUTION_BACKWARD_FILTER = 11,
  CUDNN_CONVOLUTION_BACKWARD_DATA = 12,
  CUDNN_OPERATION_GRAPH = 15,
  CUDNN_VARIANT_PACK = 16,
  CUDNN_TENSOR = 17
} CudnnKind;

/* Of an operation, the forward one's: the other two have the same in the same order from 706 and 712 on. */
typedef enum CudnnAttribute {
  CUDNN_CONVOLUTION_COMPUTE_TYPE = 100,
  CUDNN_CONVOLUTION_MODE = 101,
  CUDNN_CONVOLUTION_DILATIONS = 102,
  CUDNN_CONVOLUTION_STRIDES = 103,
  CUDNN_CONVOLUTION_PADDING_AFTER = 104,
  CUDNN_CONVOLUTION_PADDING_BEFORE = 105,
  CUDNN_CONVOLUTION_DIMENSIONS = 106,
  CUDNN_HEURISTIC_MODE = 200,
  CUDNN_HEURISTIC_GRAPH = 201,
  CUDNN_HEURISTIC_RESULTS = 202,
  CUDNN_CONFIG_ENGINE = 300,
  CUDNN_PLAN_HANDLE = 400,
  CUDNN_PLAN_CONFIG = 401,
  CUDNN_PLAN_WORKSPACE = 402,
  CUDNN_FORWARD_ALPHA = 700,
  CUDNN_FORWARD_BETA = 701,
  CUDNN_FORWARD_CONVOLUTION = 702,
  CUDNN_FORWARD_WEIGHT = 703,
  CUDNN_FORWARD_X = 704,
  CUDNN_FORWARD_Y = 705,
  CUDNN_BACKWARD_DATA_ALPHA = 706,
  CUDNN_BACKWARD_FILTER_ALPHA = 712,
  CUDNN_GRAPH_HANDLE = 800,
  CUDNN_GRAPH_OPERATIONS = 801,
  CUDNN_TENSOR_ALIGNMENT = 900,
  CUDNN_TENSOR_TYPE = 901,
  CUDNN_TENSOR_SIZES = 902,
  CUDNN_TENSOR_STRIDES = 903,
  CUDNN_TENSOR_ID = 906,
  CUDNN_PACK_IDS = 1000,
  CUDNN_PACK_POINTERS = 1001,
  CUDNN_PACK_WORKSPACE = 1003,
  CUDNN_ENGINE_NOTES = 1303
} CudnnAttribute;

typedef enum CudnnType {
  CUDNN_HANDLE = 0,
  CUDNN_DATA_TYPE = 1,
  CUDNN_INT64 = 3,
  CUDNN_FLOAT = 4,
  CUDNN_POINTER = 6,
  CUDNN_MODE = 7,
  CUDNN_HEURISTIC = 8,
  CUDNN_NOTE = 11,
  CUDNN_DESCRIPTOR = 15
} CudnnType;

enum { CUDNN_DATA_FLOAT = 0, CUDNN_DATA_HALF = 2, CUDNN_DATA_BFLOAT16 = 9 };
enum { CUDNN_CROSS_CORRELATION = 1 };
enum { CUDNN_MODE_FALLBACK = 2, CUDNN_MODE_A = 3 };

/* What an engine's arithmetic is like. */
enum {
  CUDNN_NOTE_TENSOR_CORE = 0,
  CUDNN_NOTE_DOWN_CONVERT_INPUTS = 1,
  CUDNN_NOTE_REDUCED_PRECISION_REDUCTION = 2,
  CUDNN_NOTE_FFT = 3,
  CUDNN_NOTE_NONDETERMINISTIC = 4,
  CUDNN_NOTE_WINOGRAD = 5,
  CUDNN_NOTE_WINOGRAD_TILE_4 = 6,
  CUDNN_NOTE_WINOGRAD_TILE_6 = 7,
  CUDNN_NOTE_WINOGRAD_TILE_13 = 8,
  CUDNN_NOTE_COUNT = 16 /* more than there are */
};

/* The functions of the library. Each gives a status. */
typedef struct Cudnn {
  int (*create)(CudnnHandle *handle);
  int (*destroy)(CudnnHandle handle);
  int (*set_stream)(CudnnHandle handle, cudaStream_t stream);
  const char *(*error_string)(int status);
  int (*create_descriptor)(int kind, CudnnDescriptor *descriptor);
  int (*destroy_descriptor)(CudnnDescriptor descriptor);
  int (*set_attribute)(CudnnDescriptor descriptor, int attribute, int type, int64_t count, const void *elements);
  int (*get_attribute)(CudnnDescriptor descriptor, int attribute, int type, int64_t room, int64_t *count,
                       void *elements);
  int (*finalize)(CudnnDescriptor descriptor);
  int (*execute)(CudnnHandle handle, CudnnDescriptor plan, CudnnDescriptor pack);
} Cudnn;

/* The library: FP8_CUDNN, or libcudnn.so.9 where there is one. *found is NULL where there is none, or FP8_CUDNN is `none`;
 * false with an error where the one that FP8_CUDNN names can't be used. */
bool cudnn_find(const Cudnn **found);

/* True if the status is success, else an error that names the call. */
bool cudnn_check(const Cudnn *cudnn, int status, const char *call);

#endif
