/* Picking rows or elements by index, and adding to them. */
#include "ops/support/support.h"

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

bool op_index_add(Tensor *out, const Addition *addition, DType dtype) {
  const Tensor *index = addition->index, *source = addition->source;
  int rank = addition->rank, dimension = addition->dimension;
  if (!check_index_list(source, index) || !check_compute_float(dtype, "the result's dtype")) return false;
  bool fits = source->rank == rank && source->size[dimension] == index->size[0];
  for (int d = 0; fits && d < rank; d++) fits = d == dimension || source->size[d] == addition->size[d];
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!fits)
    return error_set("a source of shape %s does not fit the index and the sizes", tensor_shape_text(source, text));
  Tensor created = {0};
  if (!tensor_create(&created, dtype, tensor_device(source), rank, addition->size)) return false;
  return run(backend_for(source)->index_add, out, &created, source, index, dimension, false);
}

bool op_gather(Tensor *out, const Tensor *x, int dimension, const Tensor *index) {
  if (!check_index(x, index) || !check_gather_index(x->rank, x->size, dimension, index)) return false;
  Tensor created = {0};
  if (!tensor_create(&created, x->dtype, tensor_device(x), index->rank, index->size)) return false;
  return run(backend_for(x)->gather, out, &created, x, index, dimension, true);
}

bool op_scatter_add(Tensor *out, const Addition *addition) {
  const Tensor *index = addition->index, *source = addition->source;
  if (!check_index(source, index) || !check_gather_index(addition->rank, addition->size, addition->dimension, index)) {
    return false;
  }
  if (!tensor_same_shape(source, index)) return error_set("the source and the index must have one shape");
  Tensor created = {0};
  if (!op_full(&created, DTYPE_F32, tensor_device(source), addition->rank, addition->size, number_of(0))) return false;
  return run(backend_for(source)->scatter_add, out, &created, source, index, addition->dimension, true);
}
