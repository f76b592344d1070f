/* Joining tensors and picking rows or elements by index. */
#include "ops/internal.h"

/* Fails unless the tensors agree in everything but the size of `dimension` (-1: in everything). */
static bool check_list(const Tensor *const *list, int count, int dimension) {
  const Tensor *first = list[0];
  char text[TENSOR_SHAPE_TEXT_MAX], other[TENSOR_SHAPE_TEXT_MAX];
  for (int i = 1; i < count; i++) {
    if (!same_device(first, list[i])) return false;
    if (list[i]->dtype != first->dtype) {
      return error_set("tensors 1 and %d have dtypes %s and %s", i + 1, dtype_name(first->dtype),
                       dtype_name(list[i]->dtype));
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

/* Copies every tensor of the list to its place in `created`, and hands `created` over. */
static bool copy_parts(Tensor *out, Tensor *created, const Tensor *const *list, int count, int dimension,
                       bool stacked) {
  int64_t start = 0;
  for (int i = 0; i < count; i++) {
    Tensor part = *created;
    part.offset += start * created->stride[dimension];
    part.size[dimension] = stacked ? 1 : list[i]->size[dimension];
    start += part.size[dimension];
    Tensor source = stacked ? with_dimension(list[i], dimension) : *list[i];
    if (!backend_for(created)->copy(&part, &source, true)) {
      tensor_release(created);
      return false;
    }
  }
  *out = *created;
  return true;
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

static bool check_index(const Tensor *x, const Tensor *index) {
  if (!is_integer_tensor(index))
    return error_set("the index must have an integer dtype, got %s", dtype_name(index->dtype));
  return same_device(x, index);
}

static bool check_index_list(const Tensor *x, const Tensor *index) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!check_index(x, index)) return false;
  return index->rank == 1 || error_set("the index must have 1 dimension, got shape %s", tensor_shape_text(index, text));
}

static bool check_gather_index(int rank, const int64_t *size, int dimension, const Tensor *index) {
  bool fits = index->rank == rank;
  for (int d = 0; fits && d < rank; d++) fits = d == dimension || index->size[d] == size[d];
  if (fits) return true;
  Tensor x = {.rank = rank};
  for (int d = 0; d < rank; d++) x.size[d] = size[d];
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  return error_set("an index of shape %s does not fit shape %s outside dimension %d", tensor_shape_text(index, second),
                   tensor_shape_text(&x, first), dimension + 1);
}

typedef bool (*IndexKernel)(Tensor *out, const Tensor *x, const Tensor *index);

/* Runs `kernel` on contiguous three-dimensional views of created, x and, if `elementwise`, index, which is otherwise
 * a list; then hands `created` over or releases it. */
static bool run(IndexKernel kernel, Tensor *out, Tensor *created, const Tensor *x, const Tensor *index, int dimension,
                bool elementwise) {
  Tensor input = {0}, positions = {0};
  bool done = op_contiguous(&input, x) && op_contiguous(&positions, index);
  if (done) {
    Tensor target = as_three_dimensions(created, dimension), source = as_three_dimensions(&input, dimension);
    Tensor places = elementwise ? as_three_dimensions(&positions, dimension) : positions;
    done = kernel(&target, &source, &places);
  }
  tensor_release(&input);
  tensor_release(&positions);
  return hand_over(out, created, done);
}

bool op_index_select(Tensor *out, const Tensor *x, int dimension, const Tensor *index) {
  if (!check_index_list(x, index)) return false;
  Tensor shape = *x, created = {0};
  shape.size[dimension] = index->size[0];
  if (!tensor_create(&created, x->dtype, tensor_device(x), x->rank, shape.size)) return false;
  return run(backend_for(x)->index_select, out, &created, x, index, dimension, false);
}

bool op_embedding(Tensor *out, const Tensor *weight, const Tensor *index) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!dtype_is_compute_float(weight->dtype))
    return error_set("the weight must be f32, f16 or bf16, got %s", dtype_name(weight->dtype));
  if (weight->rank != 2) {
    return error_set("a weight of shape (count, features) is needed, got %s", tensor_shape_text(weight, text));
  }
  if (!check_index(weight, index)) return false;
  if (index->rank == TENSOR_MAX_RANK) return error_set("an index of %d dimensions has too many", index->rank);
  Tensor rows = {0}, positions = {0}, created = {0}, shape = *index;
  shape.size[shape.rank++] = weight->size[1];
  bool done = op_contiguous(&rows, weight) && op_contiguous(&positions, index) &&
              tensor_create(&created, weight->dtype, tensor_device(weight), shape.rank, shape.size);
  if (done) {
    Tensor table = as_three_dimensions(&rows, 0), target = created, list = positions;
    list.rank = 1;
    list.size[0] = tensor_count(index);
    list.stride[0] = 1;
    target.rank = 2;
    target.size[0] = list.size[0];
    target.size[1] = weight->size[1];
    target = as_three_dimensions(&target, 0);
    done = backend_for(weight)->index_select(&target, &table, &list);
  }
  tensor_release(&rows);
  tensor_release(&positions);
  return hand_over(out, &created, done);
}

bool op_index_add(Tensor *out, int rank, const int64_t *size, int dimension, const Tensor *index, const Tensor *source,
                  DType dtype) {
  if (!check_index_list(source, index)) return false;
  if (!dtype_is_compute_float(dtype)) {
    return error_set("the result's dtype must be f32, f16 or bf16, got %s", dtype_name(dtype));
  }
  bool fits = source->rank == rank && source->size[dimension] == index->size[0];
  for (int d = 0; fits && d < rank; d++) fits = d == dimension || source->size[d] == size[d];
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!fits)
    return error_set("a source of shape %s does not fit the index and the sizes", tensor_shape_text(source, text));
  Tensor created = {0};
  if (!tensor_create(&created, dtype, tensor_device(source), rank, size)) return false;
  return run(backend_for(source)->index_add, out, &created, source, index, dimension, false);
}

bool op_gather(Tensor *out, const Tensor *x, int dimension, const Tensor *index) {
  if (!check_index(x, index) || !check_gather_index(x->rank, x->size, dimension, index)) return false;
  Tensor created = {0};
  if (!tensor_create(&created, x->dtype, tensor_device(x), index->rank, index->size)) return false;
  return run(backend_for(x)->gather, out, &created, x, index, dimension, true);
}

bool op_scatter_add(Tensor *out, int rank, const int64_t *size, int dimension, const Tensor *index,
                    const Tensor *source) {
  if (!check_index(source, index) || !check_gather_index(rank, size, dimension, index)) return false;
  if (!tensor_same_shape(source, index)) return error_set("the source and the index must have one shape");
  Tensor created = {0};
  if (!op_full(&created, DTYPE_F32, tensor_device(source), rank, size, 0)) return false;
  return run(backend_for(source)->scatter_add, out, &created, source, index, dimension, true);
}
