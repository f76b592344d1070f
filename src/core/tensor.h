/* Tensors: strided views of shared, reference-counted storage. Knows shapes and memory, computes nothing. */
#ifndef FP8_CORE_TENSOR_H
#define FP8_CORE_TENSOR_H

#include <stdint.h>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"

enum { TENSOR_MAX_RANK = 8, TENSOR_SHAPE_TEXT_MAX = 192 };

struct Capture;
struct Context;
struct Range;

typedef struct Storage {
  int references;
  struct Context *context; /* that it was made for */
  Device device;
  size_t bytes;
  void *data; /* NULL if bytes is 0 */
  /* Counts in-place changes, so that what was derived from the contents can be known to be out of date. */
  uint64_t version;
  bool exposed;          /* a script has had a pointer to the elements, through which they change unseen */
  struct Capture *owner; /* the capture whose memory this is, or NULL (capture.h) */
  struct Range *range;   /* there */
  struct Storage *previous_in_capture, *next_in_capture;
  uint64_t used_by; /* the number of the last capture that used it */
  /* What tensor_note_maxima was given, or NULL, and when: it holds as long as both numbers do. */
  struct Storage *maxima;
  uint64_t maxima_version, maxima_epoch;
} Storage;

/* Drops a reference. */
void storage_release(Storage *storage);

/* A value type: plain copies borrow the storage, tensor_share takes a reference. All zero is "no tensor". */
typedef struct Tensor {
  Storage *storage;
  DType dtype;
  int rank;
  int64_t size[TENSOR_MAX_RANK];
  int64_t stride[TENSOR_MAX_RANK]; /* in elements */
  int64_t offset;                  /* in elements */
} Tensor;

/* Makes *out a new contiguous tensor, uninitialised. Fails on a rank over TENSOR_MAX_RANK, a negative size, a size that
 * overflows, or too little memory; *out is then unchanged. */
FP8_API bool tensor_create(Tensor *out, DType dtype, Device device, int rank, const int64_t *size);

/* tensor_create with the shape and device of `like`. */
FP8_API bool tensor_create_like(Tensor *out, const Tensor *like, DType dtype);

/* Makes *out another view of the same storage as `tensor` and takes a reference. */
FP8_API void tensor_share(Tensor *out, const Tensor *tensor);

/* Drops the reference, if there is one, and leaves "no tensor". */
FP8_API void tensor_release(Tensor *tensor);

FP8_API int64_t tensor_count(const Tensor *tensor); /* number of elements */
FP8_API bool tensor_is_contiguous(const Tensor *tensor);
FP8_API bool tensor_same_shape(const Tensor *a, const Tensor *b);

/* Borrowed views of a contiguous tensor as a matrix, whose columns are its last dimension and whose rows are all others,
 * and as the transpose of that. */
FP8_API Tensor tensor_as_matrix(const Tensor *tensor);
FP8_API Tensor tensor_as_transposed_matrix(const Tensor *tensor);

/* Says that the elements have been changed in place. */
static inline void tensor_changed(const Tensor *tensor) { tensor->storage->version++; }

/* Keeps what whoever wrote all elements of a new storage has found out in passing: 32-bit words whose maximum is the bits
 * of the largest magnitude, at least those of infinity if an element is infinite or NaN. Takes the reference of `words`
 * over. */
FP8_API void tensor_note_maxima(const Tensor *tensor, Tensor *words);
/* Makes *words a reference to what was noted and returns true, if that is still so and `tensor` is all of the elements in
 * some order; else false. */
FP8_API bool tensor_known_maxima(const Tensor *tensor, Tensor *words);

/* Address of the first element. While a graph is captured, asking for it is what makes the graph keep the storage. */
FP8_API void *tensor_data(const Tensor *tensor);

static inline Device tensor_device(const Tensor *tensor) { return tensor->storage->device; }

/* Writes "(3, 4)" into `text` and returns it. */
FP8_API const char *tensor_shape_text(const Tensor *tensor, char text[TENSOR_SHAPE_TEXT_MAX]);

#endif
