/* The launchers of optimizer steps (backend.h) and of the norm of gradients, which work on lists of tensors (kernels.h). */
#ifndef FP8_KERNELS_OPTIM_H
#define FP8_KERNELS_OPTIM_H

#include "core/formats/map.h"
#include "core/optim.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A list is an argument of its kernels, of which 4 KB are possible everywhere; longer ones take several launches. Work
 * is divided by elements: a tile of a tensor goes to one thread block. */
enum { LIST_TENSORS = 62, CODED_TENSORS = 49, LIST_TILE = 8192, LIST_BLOCK = 256 };

typedef struct ListedTensor {
  void *data; /* the parameter, or a gradient to be scaled */
  const void *grad;
  void *first, *second; /* f32, or codes of a CodedTensor; or NULL */
  float *master;        /* or NULL */
  int64_t count;        /* at least 1 */
  int64_t first_word;   /* of stochastic rounding */
  int first_tile;       /* the tiles of a list are numbered through */
  uint8_t dtype;        /* of data and grad */
  bool
      vectors; /* whether all addresses suit vectors: of 16 bytes, in an update of four elements, of a coded one eight */
} ListedTensor;

typedef struct TensorList {
  int tensors, tiles;
  ListedTensor tensor[LIST_TENSORS];
} TensorList;

typedef struct UpdateNumbers {
  UpdateRule rule;
  UpdateStep step;
  const UpdateStep *live; /* read instead of the step; or NULL */
  float *partials;        /* STABLE_ADAMW: room for one number a tile … */
  float *divisors;        /* … and one a tensor; else NULL */
} UpdateNumbers;

typedef struct UpdatePlan {
  UpdateNumbers numbers;
  TensorList list;
} UpdatePlan;

cudaError_t launch_update(Launch launch, const UpdatePlan *plan);

/* --- moments in 8 bits --- */

typedef struct CodedTensor {
  ListedTensor listed;
  float *first_scale, *second_scale;
} CodedTensor;

typedef struct CodedList {
  int tensors, tiles;
  CodedTensor tensor[CODED_TENSORS];
} CodedList;

typedef struct MomentFormat {
  const MapTable *map; /* on the device; NULL for a hardware format */
  DType format;
  float smallest; /* what is encoded of a number above 0 at least; 0 for any */
} MomentFormat;

typedef struct CodedPlan {
  UpdateNumbers numbers;
  MomentFormat first, second;
  int block_shift; /* the binary logarithm of the blocksize */
  CodedList list;
} CodedPlan;

cudaError_t launch_update_coded(Launch launch, const CodedPlan *plan);

/* --- norms --- */

/* partials[tile] = the sum of the squares of `data` there. */
cudaError_t launch_squares(Launch launch, const TensorList *list, double *partials);
/* exact[0] = the root of the sum of all partials, norm[0] the same rounded. */
cudaError_t launch_norm(Launch launch, const double *partials, int64_t count, double *exact, float *norm);
/* data *= min(1, largest / (norm[0] + 1e-6)) */
cudaError_t launch_clip(Launch launch, const TensorList *list, const double *norm, float largest);

/* out[i] = words[i], of at most FIELDS_MOST */
cudaError_t launch_store_words(Launch launch, uint32_t *out, const uint32_t *words, int count);

#ifdef __cplusplus
}
#endif

#endif
