/* Joining tensors. */
#include <stdlib.h>

#include "ops/support/support.h"

/* Fails unless the tensors agree in everything but the size of `dimension` (-1: in everything). */
static bool check_list(const Tensor *const *list, int count, int dimension) {
  const Tensor *first = list[0];
  char text[TENSOR_SHAPE_TEXT_MAX], other[TENSOR_SHAPE_TEXT_MAX];
  for (int i = 1; i < count; i++) {
    if (!same_device(first, list[i])) return false;
    if (list[i]->dtype != first->dtype) {
      return error_set("tensors 1 and %d have dtypes %s and %s: write :to \"%s\" after tensor %d", i + 1,
                       dtype_name(first->dtype), dtype_name(list[i]->dtype), dtype_name(first->dtype), i + 1);
    }
    bool fits = list[i]->rank == first->rank;
    for (int d = 0; fits && d < first->rank; d++) fits = d == dimension || list[i]->size[d] == first->size[d];
    if (!fits) {
      return error_set("tensors 1 and %d have shapes %s and %s, which don't fit", i + 1, tensor_shape_text(first, text),
                       tensor_shape_text(list[i], other));
    }
  }
  return true;
}

static bool copy_one_by_one(const Backend *backend, Tensor *parts, const Tensor *sources, int count) {
  for (int i = 0; i < count; i++) {
    if (!backend->copy(&parts[i], &sources[i], true)) return false;
  }
  return true;
}

/* Copies every tensor of the list to its place in `created`, and hands `created` over. */
static bool copy_parts(Tensor *out, Tensor *created, const Tensor *const *list, int count, int dimension,
                       bool stacked) {
  size_t bytes = 2 * (size_t)count * sizeof(Tensor);
  Tensor *parts = host_allocate(bytes);
  if (!parts) return hand_over(out, created, false);
  Tensor *sources = parts + count;
  int64_t start = 0;
  for (int i = 0; i < count; i++) {
    sources[i] = stacked ? with_dimension(list[i], dimension) : *list[i];
    parts[i] = *created;
    parts[i].offset += start * created->stride[dimension];
    parts[i].size[dimension] = sources[i].size[dimension];
    start += sources[i].size[dimension];
  }
  const Backend *backend = backend_for(created);
  bool done = backend->copy_parts ? backend->copy_parts(parts, sources, count)
                                  : copy_one_by_one(backend, parts, sources, count);
  free(parts);
  return hand_over(out, created, done);
}

bool op_cat(Tensor *out, const Tensor *const *list, int count, int dimension) {
  if (!check_list(list, count, dimension)) return false;
  Tensor shape = *list[0], created = {0};
  for (int i = 1; i < count; i++) {
    if (__builtin_add_overflow(shape.size[dimension], list[i]->size[dimension], &shape.size[dimension])) {
      return error_set("sizes are too large: they overflow 63 bits");
    }
  }
  return tensor_create(&created, shape.dtype, tensor_device(&shape), shape.rank, shape.size) &&
         copy_parts(out, &created, list, count, dimension, false);
}

bool op_stack(Tensor *out, const Tensor *const *list, int count, int dimension) {
  const Tensor *first = list[0];
  if (first->rank == TENSOR_MAX_RANK)
    return error_set("%d dimensions are too many: at most %d", first->rank + 1, TENSOR_MAX_RANK);
  if (!check_list(list, count, -1)) return false;
  Tensor shape = with_dimension(first, dimension), created = {0};
  shape.size[dimension] = count;
  return tensor_create(&created, shape.dtype, tensor_device(first), shape.rank, shape.size) &&
         copy_parts(out, &created, list, count, dimension, true);
}
