#include "core/tensor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/capture/capture.h"
#include "core/context.h"

/* A storage without memory, which its context does not count yet. */
static Storage *storage_describe(Device device, size_t bytes) {
  Storage *storage = host_allocate(sizeof *storage);
  if (storage)
    *storage = (Storage){
        .references = 1, .context = context_now, .made_in = context_now->call, .device = device, .bytes = bytes};
  return storage;
}

const Context *tensor_stopper(const Tensor *result) {
  const Storage *storage = result->storage;
  bool is_new = storage->context == context_now && storage->made_in == context_now->call && !storage->exposed;
  return is_new ? context_now : NULL;
}

static Storage *storage_create(Device device, size_t bytes) {
  Storage *storage = storage_describe(device, bytes);
  if (!storage) return NULL;
  if (bytes > 0) {
    storage->data = capture_owns(device) ? capture_allocate(storage) : memory_allocate(device, bytes);
    if (!storage->data) {
      free(storage);
      return NULL;
    }
  }
  context_hold(storage->context);
  return storage;
}

void storage_release(Storage *storage) {
  if (--storage->references > 0) return;
  Context *context = storage->context, *before = context_enter(context);
  for (int kind = 0; kind < NOTE_KINDS; kind++) {
    if (storage->note[kind].found) storage_release(storage->note[kind].found);
  }
  Lender lender = storage->lender;
  if (storage->owner) {
    capture_free(storage);
  } else if (storage->data && !lender.release) {
    memory_release(storage->device, storage->data, storage->bytes);
  }
  free(storage);
  if (lender.release) lender.release(context, lender.owner);
  context_release(context);
  if (before != context) context_enter(before);
}

/* Bytes of a contiguous tensor; fails where an offset in bytes would not fit 63 bits. */
static bool count_bytes(DType dtype, int rank, const int64_t *size, size_t *bytes) {
  int64_t count = dtype_size(dtype);
  bool empty = false;
  for (int i = 0; i < rank; i++) {
    if (size[i] < 0) return error_set("size %lld of dimension %d is negative", (long long)size[i], i + 1);
    if (size[i] == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(count, size[i], &count)) {
      return error_set("sizes are too large: they overflow 63 bits");
    }
  }
  *bytes = empty ? 0 : (size_t)count;
  return true;
}

/* The contiguous tensor of these sizes over all of a storage. */
static Tensor tensor_of(Storage *storage, DType dtype, int rank, const int64_t *size) {
  Tensor tensor = {.storage = storage, .dtype = dtype, .rank = rank};
  int64_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    tensor.size[i] = size[i];
    tensor.stride[i] = stride;
    stride *= size[i] > 0 ? size[i] : 1;
  }
  return tensor;
}

static bool check_rank(int rank) {
  return rank <= TENSOR_MAX_RANK || error_set("%d dimensions are too many: at most %d", rank, TENSOR_MAX_RANK);
}

bool tensor_create(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  size_t bytes = 0;
  if (!check_rank(rank) || !count_bytes(dtype, rank, size, &bytes)) return false;
  Storage *storage = storage_create(device, bytes);
  if (!storage) return false;
  *out = tensor_of(storage, dtype, rank, size);
  return true;
}

/* Bytes from the first element to the end of the last one; there is one. */
static bool count_reach(DType dtype, int rank, const int64_t *size, const int64_t *stride, size_t *bytes) {
  int64_t last = 0;
  for (int i = 0; i < rank; i++) {
    int64_t distance = 0;
    if (stride[i] < 0) return error_set("stride %lld of dimension %d is negative", (long long)stride[i], i + 1);
    if (__builtin_mul_overflow(size[i] - 1, stride[i], &distance) || __builtin_add_overflow(last, distance, &last))
      return error_set("strides are too large: they overflow 63 bits");
  }
  if (__builtin_add_overflow(last, 1, &last) || __builtin_mul_overflow(last, dtype_size(dtype), &last))
    return error_set("strides are too large: they overflow 63 bits");
  *bytes = (size_t)last;
  return true;
}

bool tensor_borrow(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, const int64_t *stride,
                   void *data, Lender lender) {
  size_t bytes = 0;
  if (!check_rank(rank) || !count_bytes(dtype, rank, size, &bytes)) return false;
  bool strided = stride && bytes > 0;
  if (strided && !count_reach(dtype, rank, size, stride, &bytes)) return false;
  if (bytes > 0 && !data) return error_set("the address is NULL");
  if ((uintptr_t)data % (uintptr_t)dtype_size(dtype) != 0)
    return error_set("the address is no multiple of the %d bytes of an element", (int)dtype_size(dtype));
  Storage *storage = storage_describe(device, bytes);
  if (!storage) return false;
  if (bytes > 0) storage->data = data;
  storage->exposed = true;
  storage->lender = lender;
  context_hold(storage->context);
  *out = tensor_of(storage, dtype, rank, size);
  if (strided) memcpy(out->stride, stride, (size_t)rank * sizeof *stride);
  return true;
}

bool tensor_create_like(Tensor *out, const Tensor *like, DType dtype) {
  return tensor_create(out, dtype, tensor_device(like), like->rank, like->size);
}

void tensor_share(Tensor *out, const Tensor *tensor) {
  *out = *tensor;
  out->storage->references++;
}

void tensor_release(Tensor *tensor) {
  if (!tensor->storage) return;
  storage_release(tensor->storage);
  tensor->storage = NULL;
}

int64_t tensor_count(const Tensor *tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor->rank; i++) count *= tensor->size[i];
  return count;
}

bool tensor_is_contiguous(const Tensor *tensor) {
  int64_t stride = 1;
  if (tensor_count(tensor) == 0) return true;
  for (int i = tensor->rank - 1; i >= 0; i--) {
    if (tensor->size[i] != 1 && tensor->stride[i] != stride) return false;
    stride *= tensor->size[i];
  }
  return true;
}

bool tensor_same_shape(const Tensor *a, const Tensor *b) {
  return a->rank == b->rank && memcmp(a->size, b->size, (size_t)a->rank * sizeof a->size[0]) == 0;
}

void *tensor_data(const Tensor *tensor) {
  if (!tensor->storage->data) return NULL;
  if (tensor->storage->context->capture) capture_use(tensor->storage);
  return (char *)tensor->storage->data + tensor->offset * dtype_size(tensor->dtype);
}

void tensor_note(const Tensor *tensor, NoteKind kind, Tensor *found, int64_t columns) {
  Storage *storage = tensor->storage;
  if (storage->note[kind].found) storage_release(storage->note[kind].found);
  storage->note[kind] = (Note){found->storage, storage->version, capture_epoch(), columns};
  found->storage = NULL;
}

bool tensor_noted(const Tensor *tensor, NoteKind kind, Tensor *found) {
  const Storage *storage = tensor->storage;
  const Note *note = &storage->note[kind];
  if (!note->found || note->version != storage->version || note->epoch != capture_epoch()) return false;
  bool whole = (size_t)(tensor_count(tensor) * dtype_size(tensor->dtype)) == storage->bytes;
  if (!whole || !tensor_is_contiguous(tensor)) return false;
  if (kind == NOTE_COLUMN_SUMS && (tensor->rank == 0 || tensor->size[tensor->rank - 1] != note->columns)) return false;
  *found = (Tensor){.storage = note->found, .dtype = DTYPE_U8, .rank = 1, .stride = {1}};
  found->size[0] = (int64_t)note->found->bytes;
  found->storage->references++;
  return true;
}

const char *tensor_shape_text(const Tensor *tensor, char text[TENSOR_SHAPE_TEXT_MAX]) {
  int length = snprintf(text, TENSOR_SHAPE_TEXT_MAX, "(");
  for (int i = 0; i < tensor->rank; i++) {
    length += snprintf(text + length, TENSOR_SHAPE_TEXT_MAX - (size_t)length, i ? ", %lld" : "%lld",
                       (long long)tensor->size[i]);
  }
  snprintf(text + length, TENSOR_SHAPE_TEXT_MAX - (size_t)length, ")");
  return text;
}

Tensor tensor_as_matrix(const Tensor *tensor) {
  Tensor matrix = *tensor;
  int64_t columns = tensor->rank > 0 ? tensor->size[tensor->rank - 1] : 1;
  matrix.rank = 2;
  matrix.size[0] = columns > 0 ? tensor_count(tensor) / columns : 0;
  matrix.size[1] = matrix.stride[0] = columns;
  matrix.stride[1] = 1;
  return matrix;
}

Tensor tensor_as_transposed_matrix(const Tensor *tensor) {
  Tensor matrix = tensor_as_matrix(tensor), transposed = matrix;
  transposed.size[0] = matrix.size[1];
  transposed.size[1] = matrix.size[0];
  transposed.stride[0] = matrix.stride[1];
  transposed.stride[1] = matrix.stride[0];
  return transposed;
}
