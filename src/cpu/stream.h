/* A tensor of any strides as a stream of elements in row-major order, read and written a chunk at a time; or a
 * number, as a stream that repeats it. */
#ifndef FP8_CPU_STREAM_H
#define FP8_CPU_STREAM_H

#include "backend.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"

typedef struct Stream {
  char *data; /* NULL if this is a number, or the tensor is empty */
  DType dtype;
  int64_t count;
  /* The tensor's dimensions, adjacent ones merged where that leaves the order of elements unchanged; at least one. */
  int rank;
  int64_t size[TENSOR_MAX_RANK];
  int64_t stride[TENSOR_MAX_RANK]; /* in bytes */
  Number number;
  bool is_fetched; /* ahead of its turn */
} Stream;

/* Room for one chunk of a stream: elements as they are in memory, and converted. */
typedef struct Chunk {
  _Alignas(64) unsigned char raw[CHUNK * sizeof(int64_t)];
  union {
    _Alignas(64) float floats[CHUNK];
    int64_t integers[CHUNK];
  };
} Chunk;

Stream stream_of(const Tensor *tensor);
Stream stream_of_operand(const Operand *operand);

/* Address of element `position`. */
char *stream_address(const Stream *stream, int64_t position);

/* Address of elements start … start + n - 1 if they are contiguous in memory, else NULL. */
void *stream_direct(const Stream *stream, int64_t start, int n);

/* Has the n elements after those at `direct` fetched, if that pays (is_fetched). */
void stream_fetch_next(const Stream *stream, const void *direct, int n);

/* Address of elements start … start + n - 1 if they are one and the same, else NULL. */
const void *stream_one(const Stream *stream, int64_t start, int n);

/* Elements start … start + n - 1 (n at most CHUNK): where they are if contiguous there, otherwise copied into
 * `scratch`. */
const void *stream_read(const Stream *stream, int64_t start, int n, void *scratch);
void stream_write(const Stream *stream, int64_t start, int n, const void *values);

/* The same, converted. The pointer that comes back lives as long as the chunk and the stream's data. */
const float *stream_floats(const Stream *stream, int64_t start, int n, Chunk *chunk);
const int64_t *stream_integers(const Stream *stream, int64_t start, int n, Chunk *chunk);

/* Where to compute a chunk of output: in place if it is contiguous memory of the computing type, else in `chunk`.
 * The store functions take what was computed there to where it belongs. */
float *stream_float_target(const Stream *stream, int64_t start, int n, Chunk *chunk);
int64_t *stream_integer_target(const Stream *stream, int64_t start, int n, Chunk *chunk);
void stream_store_floats(const Stream *stream, int64_t start, int n, const float *values, Chunk *chunk);
void stream_store_integers(const Stream *stream, int64_t start, int n, const int64_t *values, Chunk *chunk);
/* Results of integer arithmetic wrap around where other integers saturate. */
void stream_store_wrapped_integers(const Stream *stream, int64_t start, int n, const int64_t *values, Chunk *chunk);

#endif
