#include "cpu/stream.h"

#include <string.h>

#include "cpu/vectors.h"

Stream stream_of(const Tensor *tensor) {
  int64_t element = dtype_size(tensor->dtype);
  Stream stream = {.data = tensor_data(tensor), .dtype = tensor->dtype, .count = tensor_count(tensor)};
  stream.is_fetched = is_fetched(stream.count * element);
  for (int i = 0; i < tensor->rank; i++) {
    int64_t size = tensor->size[i], stride = tensor->stride[i] * element;
    if (size == 1) continue;
    int last = stream.rank - 1;
    if (last >= 0 && stream.stride[last] == stride * size) {
      stream.size[last] *= size;
      stream.stride[last] = stride;
    } else {
      stream.size[stream.rank] = size;
      stream.stride[stream.rank++] = stride;
    }
  }
  if (stream.rank == 0) {
    stream.rank = 1;
    stream.size[0] = 1;
    stream.stride[0] = element;
  }
  return stream;
}

Stream stream_of_operand(const Operand *operand) {
  if (operand->tensor) return stream_of(operand->tensor);
  return (Stream){.number = operand->number};
}

/* A place in a stream: the index in every merged dimension, and the address of that element. */
typedef struct Place {
  int64_t index[TENSOR_MAX_RANK];
  char *address;
} Place;

static Place place_of(const Stream *stream, int64_t position) {
  Place place;
  place.address = stream->data;
  for (int i = stream->rank - 1; i > 0; i--) {
    place.index[i] = position % stream->size[i];
    position /= stream->size[i];
    place.address += place.index[i] * stream->stride[i];
  }
  place.index[0] = position;
  place.address += position * stream->stride[0];
  return place;
}

/* Moves on by n elements of the last dimension, at most to the end of its row, and then to the next row. */
static void place_advance(Place *place, const Stream *stream, int64_t n) {
  int i = stream->rank - 1;
  place->index[i] += n;
  place->address += n * stream->stride[i];
  while (i > 0 && place->index[i] == stream->size[i]) {
    place->address += stream->stride[i - 1] - stream->size[i] * stream->stride[i];
    place->index[i] = 0;
    place->index[--i]++;
  }
}

char *stream_address(const Stream *stream, int64_t position) {
  if (stream->rank == 1) return stream->data + position * stream->stride[0];
  return place_of(stream, position).address;
}

void *stream_direct(const Stream *stream, int64_t start, int n) {
  int last = stream->rank - 1;
  if (!stream->data || stream->stride[last] != dtype_size(stream->dtype)) return NULL;
  if (last > 0 && start % stream->size[last] + n > stream->size[last]) return NULL;
  return stream_address(stream, start);
}

const void *stream_one(const Stream *stream, int64_t start, int n) {
  int last = stream->rank - 1;
  if (stream->stride[last] != 0 || start % stream->size[last] + n > stream->size[last]) return NULL;
  return stream_address(stream, start);
}

/* n times the same element. */
VECTORIZE static void repeat(void *out, const void *in, int64_t n, size_t element) {
  switch (element) {
  case 1:
    memset(out, *(const uint8_t *)in, (size_t)n);
    return;
  case 2: {
    uint16_t value = *(const uint16_t *)in;
    for (int64_t i = 0; i < n; i++) ((uint16_t *)out)[i] = value;
    return;
  }
  case 4: {
    uint32_t value = *(const uint32_t *)in;
    for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i] = value;
    return;
  }
  case 8: {
    uint64_t value = *(const uint64_t *)in;
    for (int64_t i = 0; i < n; i++) ((uint64_t *)out)[i] = value;
    return;
  }
  }
  trap_missing_case();
}

/* Copies n elements, `stride` bytes apart, to contiguous memory. */
static void gather(void *out, const char *in, int64_t stride, int64_t n, size_t element) {
  if (stride == (int64_t)element) {
    memcpy(out, in, (size_t)n * element);
    return;
  }
  if (stride == 0) {
    repeat(out, in, n, element);
    return;
  }
  switch (element) {
  case 1:
    for (int64_t i = 0; i < n; i++) ((uint8_t *)out)[i] = *(const uint8_t *)(in + i * stride);
    return;
  case 2:
    for (int64_t i = 0; i < n; i++) ((uint16_t *)out)[i] = *(const uint16_t *)(in + i * stride);
    return;
  case 4:
    for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i] = *(const uint32_t *)(in + i * stride);
    return;
  case 8:
    for (int64_t i = 0; i < n; i++) ((uint64_t *)out)[i] = *(const uint64_t *)(in + i * stride);
    return;
  }
  trap_missing_case();
}

static void scatter(char *out, const void *in, int64_t stride, int64_t n, size_t element) {
  if (stride == (int64_t)element) {
    memcpy(out, in, (size_t)n * element);
    return;
  }
  switch (element) {
  case 1:
    for (int64_t i = 0; i < n; i++) *(uint8_t *)(out + i * stride) = ((const uint8_t *)in)[i];
    return;
  case 2:
    for (int64_t i = 0; i < n; i++) *(uint16_t *)(out + i * stride) = ((const uint16_t *)in)[i];
    return;
  case 4:
    for (int64_t i = 0; i < n; i++) *(uint32_t *)(out + i * stride) = ((const uint32_t *)in)[i];
    return;
  case 8:
    for (int64_t i = 0; i < n; i++) *(uint64_t *)(out + i * stride) = ((const uint64_t *)in)[i];
    return;
  }
  trap_missing_case();
}

/* Elements from `place` to the end of its row, at most n. */
static int64_t row_rest(const Place *place, const Stream *stream, int64_t n) {
  int last = stream->rank - 1;
  int64_t rest = stream->size[last] - place->index[last];
  return rest < n ? rest : n;
}

void stream_fetch_next(const Stream *stream, const void *direct, int n) {
  int bytes = n * (int)dtype_size(stream->dtype);
  if (stream->is_fetched) fetch_ahead((const char *)direct + bytes, bytes);
}

const void *stream_read(const Stream *stream, int64_t start, int n, void *scratch) {
  const void *direct = stream_direct(stream, start, n);
  if (direct) {
    stream_fetch_next(stream, direct, n);
    return direct;
  }
  size_t element = (size_t)dtype_size(stream->dtype);
  int64_t stride = stream->stride[stream->rank - 1];
  char *out = scratch;
  Place place = place_of(stream, start);
  for (int64_t rest = n; rest > 0;) {
    int64_t run = row_rest(&place, stream, rest);
    gather(out, place.address, stride, run, element);
    place_advance(&place, stream, run);
    out += run * (int64_t)element;
    rest -= run;
  }
  return scratch;
}

void stream_write(const Stream *stream, int64_t start, int n, const void *values) {
  size_t element = (size_t)dtype_size(stream->dtype);
  int64_t stride = stream->stride[stream->rank - 1];
  const char *in = values;
  Place place = place_of(stream, start);
  for (int64_t rest = n; rest > 0;) {
    int64_t run = row_rest(&place, stream, rest);
    if (place.address != in) scatter(place.address, in, stride, run, element);
    place_advance(&place, stream, run);
    in += run * (int64_t)element;
    rest -= run;
  }
}

const float *stream_floats(const Stream *stream, int64_t start, int n, Chunk *chunk) {
  if (!stream->data) {
    float number = (float)stream->number.value;
    for (int i = 0; i < n; i++) chunk->floats[i] = number;
    return chunk->floats;
  }
  return load_floats(stream->dtype, stream_read(stream, start, n, chunk->raw), 0, n, chunk->floats);
}

const int64_t *stream_integers(const Stream *stream, int64_t start, int n, Chunk *chunk) {
  if (!stream->data) {
    for (int i = 0; i < n; i++) chunk->integers[i] = stream->number.integer;
    return chunk->integers;
  }
  return load_integers(stream->dtype, stream_read(stream, start, n, chunk->raw), 0, n, chunk->integers);
}

float *stream_float_target(const Stream *stream, int64_t start, int n, Chunk *chunk) {
  void *direct = stream->dtype == DTYPE_F32 ? stream_direct(stream, start, n) : NULL;
  return direct ? direct : chunk->floats;
}

int64_t *stream_integer_target(const Stream *stream, int64_t start, int n, Chunk *chunk) {
  void *direct = stream->dtype == DTYPE_I64 ? stream_direct(stream, start, n) : NULL;
  return direct ? direct : chunk->integers;
}

/* Where elements are stored, if they are neighbours there; the place of those after them is fetched, unless what is
 * computed is there already. */
static void *store_place(const Stream *stream, int64_t start, int n, const void *values) {
  void *direct = stream_direct(stream, start, n);
  if (direct && direct != values) stream_fetch_next(stream, direct, n);
  return direct;
}

void stream_store_floats(const Stream *stream, int64_t start, int n, const float *values, Chunk *chunk) {
  void *direct = store_place(stream, start, n, values);
  store_floats(stream->dtype, direct ? direct : chunk->raw, 0, n, values);
  if (!direct) stream_write(stream, start, n, chunk->raw);
}

void stream_store_integers(const Stream *stream, int64_t start, int n, const int64_t *values, Chunk *chunk) {
  void *direct = store_place(stream, start, n, values);
  store_integers(stream->dtype, direct ? direct : chunk->raw, 0, n, values);
  if (!direct) stream_write(stream, start, n, chunk->raw);
}

void stream_store_wrapped_integers(const Stream *stream, int64_t start, int n, const int64_t *values, Chunk *chunk) {
  void *direct = store_place(stream, start, n, values);
  store_wrapped_integers(stream->dtype, direct ? direct : chunk->raw, 0, n, values);
  if (!direct) stream_write(stream, start, n, chunk->raw);
}
