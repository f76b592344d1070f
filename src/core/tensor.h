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

/* What whoever wrote all elements of a new storage has found out about them in passing. */
typedef enum NoteKind {
  NOTE_MAXIMA,     /* 32-bit words whose maximum is the bits of the largest magnitude, at least those of infinity if an
                    * element is infinite or NaN */
  NOTE_COLUMN_SUMS /* f32: the sum over any number of rows of so many columns each is that over all rows of a matrix */
} NoteKind;
enum { NOTE_KINDS = 2 };

/* NULL, or what is noted, and when: it holds as long as both numbers do. */
typedef struct Note {
  struct Storage *found;
  uint64_t version, epoch;
  int64_t columns; /* of column sums */
} Note;

/* Whoever lent memory: release(context, owner) tells that nothing of fp8 has it any more. */
typedef struct Lender {
  void (*release)(struct Context *context, void *owner); /* NULL for memory of fp8's own */
  void *owner;
} Lender;

typedef struct Storage {
  int references;
  struct Context *context; /* that it was made for */
  uint64_t made_in;        /* the number of the call */
  Device device;
  size_t bytes;
  void *data; /* NULL if bytes is 0 */
  /* Counts in-place changes, so that what was derived from the contents can be known to be out of date. */
  uint64_t version;
  /* Counts those of them that autograd has recorded: what it knows of views from before is out of date. */
  uint64_t history;
  bool exposed;          /* a script has had a pointer to the elements, through which they change unseen */
  struct Capture *owner; /* the capture whose memory this is, or NULL (capture.h) */
  struct Range *range;   /* there */
  struct Storage *previous_in_capture, *next_in_capture;
  uint64_t used_by; /* the number of the last capture that used it */
  Note note[NOTE_KINDS];
  Lender lender;
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

/* Makes *out a tensor over memory that is lent to it, of `stride` in elements (none may be negative) or, if that is NULL,
 * contiguous. Scripts know of the memory, as if they had a pointer to it. Fails as tensor_create does; the lender is then
 * not told anything. */
bool tensor_borrow(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, const int64_t *stride,
                   void *data, Lender lender);

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

/* Notes what has been found of a tensor that is all of its storage; `columns` counts for column sums. Takes the
 * reference of `found` over. Of a tensor that is written in place: tensor_changing first. */
FP8_API void tensor_note(const Tensor *tensor, NoteKind kind, Tensor *found, int64_t columns);
/* Makes *found a reference to the bytes of a note and returns true, if it still holds, `tensor` is all of the elements
 * in their order, and, of column sums, its last dimension is those columns; else false. */
FP8_API bool tensor_noted(const Tensor *tensor, NoteKind kind, Tensor *found);

/* What may end the work that writes this tensor (context_stops): the context, if the running call has made the tensor, which
 * nobody sees unless the call succeeds; NULL if it was there before, and would be left half written. */
FP8_API const struct Context *tensor_stopper(const Tensor *result);

/* Address of the first element. While a graph is captured, asking for it is what makes the graph keep the storage. */
FP8_API void *tensor_data(const Tensor *tensor);

/* Says that the elements are about to be changed in place, by what may note something of the new ones. */
static inline void tensor_changing(const Tensor *tensor) {
  tensor_data(tensor); /* an open capture has to see the version before */
  tensor_changed(tensor);
}

static inline Device tensor_device(const Tensor *tensor) { return tensor->storage->device; }

/* Writes "(3, 4)" into `text` and returns it. */
FP8_API const char *tensor_shape_text(const Tensor *tensor, char text[TENSOR_SHAPE_TEXT_MAX]);

#endif
