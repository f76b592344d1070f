/* Picking rows or elements by index, and putting them there. */
#include "core/formats/element.h"
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

static bool index_add(Tensor *out, const Tensor *x, const Tensor *index) {
  return backend_for(x)->index_add(out, x, index, false);
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
  return run(index_add, out, &created, source, index, dimension, false);
}

bool op_gather(Tensor *out, const Tensor *x, int dimension, const Tensor *index) {
  if (!check_index(x, index) || !check_gather_index(x->rank, x->size, dimension, index)) return false;
  Tensor created = {0};
  if (!tensor_create(&created, x->dtype, tensor_device(x), index->rank, index->size)) return false;
  return run(backend_for(x)->gather, out, &created, x, index, dimension, true);
}

/* --- scatter --- */

static bool check_scatter(const Tensor *x, const Scatter *scatter) {
  const Tensor *index = scatter->index, *source = scatter->source.tensor;
  if (!check_index(x, index) || !check_writable(x)) return false;
  if (scatter->slices ? !check_index_list(x, index)
                      : !check_gather_index(x->rank, x->size, scatter->dimension, index)) {
    return false;
  }
  if (!source) return true;
  if (!same_device(x, source)) return false;
  if (scatter->rule == SCATTER_SET ? source->dtype != x->dtype
                                   : dtype_is_float(source->dtype) != dtype_is_float(x->dtype)) {
    return error_set("a source of dtype %s does not fit a tensor of dtype %s", dtype_name(source->dtype),
                     dtype_name(x->dtype));
  }
  Tensor expected = scatter->slices ? *x : *index;
  if (scatter->slices) expected.size[scatter->dimension] = index->size[0];
  char text[TENSOR_SHAPE_TEXT_MAX], other[TENSOR_SHAPE_TEXT_MAX];
  return tensor_same_shape(source, &expected) ||
         error_set("a source of shape %s is needed, got %s", tensor_shape_text(&expected, text),
                   tensor_shape_text(source, other));
}

/* The dtype that a rule computes in. */
static DType scatter_dtype(ScatterRule rule, DType dtype) {
  if (rule == SCATTER_SET || dtype == DTYPE_I64) return dtype;
  return dtype_is_integer(dtype) ? DTYPE_I32 : DTYPE_F32;
}

/* A contiguous tensor of `dtype` with the elements of `x`, which shares no memory with `target`. */
static bool ready_input(Tensor *out, const Tensor *x, DType dtype, const Tensor *target) {
  if (x->dtype != dtype) return op_convert(out, x, dtype, tensor_device(x), true);
  return x->storage == target->storage ? copy_contiguous(out, x) : op_contiguous(out, x);
}

/* Whether the backend adds elements of f16 and bf16 to rows as they are. */
static bool sums_rows(const Tensor *x, const Scatter *scatter) {
  const Tensor *source = scatter->source.tensor;
  const Backend *backend = backend_for(x);
  if (!backend->sums_rows || scatter->rule != SCATTER_SUM || scatter->slices || !source || source->dtype != x->dtype ||
      !dtype_is_compute_float(x->dtype)) {
    return false;
  }
  Tensor whole = as_three_dimensions(x, scatter->dimension);
  Tensor places = as_three_dimensions(scatter->index, scatter->dimension);
  return backend->sums_rows(&whole, &places);
}

/* Elements of u8 that were computed with in i32. */
static bool wrap_bytes(Tensor *x) {
  return op_binary_in_place(BINARY_REMAINDER, x, (Operand){.number = number_of(256)});
}

bool op_scatter_in_place(Tensor *x, const Scatter *scatter) {
  if (!check_scatter(x, scatter)) return false;
  const Tensor *source = scatter->source.tensor, *index = scatter->index;
  bool adds_rows = scatter->slices && scatter->rule == SCATTER_SUM && source && dtype_is_float(x->dtype);
  bool takes_all = (adds_rows && dtype_is_compute_float(x->dtype)) || sums_rows(x, scatter);
  Device device = tensor_device(x);
  DType dtype = takes_all ? x->dtype : scatter_dtype(scatter->rule, x->dtype);
  Tensor target = {0}, values = {0}, positions = {0};
  bool direct = dtype == x->dtype && tensor_is_contiguous(x);
  bool done = ready_input(&positions, index, index->dtype, x) &&
              (source ? ready_input(&values, source, adds_rows ? source->dtype : dtype, x)
                      : op_full(&values, dtype, device, 0, NULL, number_in(x->dtype, scatter->source.number)));
  if (done && direct) tensor_share(&target, x);
  if (done && !direct) done = op_convert(&target, x, dtype, device, true);
  if (done) {
    Tensor whole = as_three_dimensions(&target, scatter->dimension);
    Tensor from = source ? as_three_dimensions(&values, scatter->dimension) : values;
    Tensor places = scatter->slices ? positions : as_three_dimensions(&positions, scatter->dimension);
    done = adds_rows ? backend_for(x)->index_add(&whole, &from, &places, true)
                     : backend_for(x)->scatter(&whole, &places, &from, scatter->rule);
  }
  if (done && x->dtype == DTYPE_U8 && dtype != DTYPE_U8) done = wrap_bytes(&target);
  if (done && !direct) done = backend_for(x)->copy(x, &target, true);
  if (done) tensor_changed(x);
  tensor_release(&target);
  tensor_release(&values);
  tensor_release(&positions);
  return done;
}
