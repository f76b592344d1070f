/* Elementwise operations: broadcasting, promotion, and outputs. */
#include <math.h>

#include "core/formats/element.h"
#include "ops/support/support.h"

/* A number joins a tensor's dtype, except that one that is no integer of 64 bits makes an integer tensor f32. */
static DType operand_dtype(Operand operand, DType other) {
  if (operand.tensor) return operand.tensor->dtype;
  return number_is_integer(operand.number) || dtype_is_float(other) ? other : DTYPE_F32;
}

static DType promoted(Operand a, Operand b) {
  DType first = operand_dtype(a, b.tensor ? b.tensor->dtype : DTYPE_F32);
  DType second = operand_dtype(b, first);
  return dtype_promote(first, second);
}

static bool merge_operand(Operand operand, const Tensor *first, int *rank, int64_t *size) {
  return !operand.tensor || (same_device(first, operand.tensor) && broadcast_shape(rank, size, operand.tensor));
}

/* The operand expanded to the output's shape, `view` holding the expanded tensor. */
static Operand expand_operand(Operand operand, Tensor *view, const Tensor *out) {
  if (!operand.tensor) return operand;
  *view = expanded(operand.tensor, out->rank, out->size);
  return (Operand){.tensor = view};
}

bool op_unary(UnaryOp op, Tensor *out, const Tensor *x) {
  Tensor created = {0};
  if (!tensor_create_like(&created, x, elementwise_dtype(unary_class(op), x->dtype))) return false;
  return hand_over(out, &created, backend_for(x)->unary(op, &created, x));
}

/* Fails unless x's dtype takes what `op` gives. */
static bool check_result(const Tensor *x, DType result) {
  if (dtype_is_float(x->dtype) || !dtype_is_float(result)) return true;
  return error_set("the result is %s, which a tensor of dtype %s can't take", dtype_name(result), dtype_name(x->dtype));
}

bool op_unary_in_place(UnaryOp op, Tensor *x) {
  if (!check_writable(x) || !check_result(x, elementwise_dtype(unary_class(op), x->dtype))) return false;
  bool done = backend_for(x)->unary(op, x, x);
  if (done) tensor_changed(x);
  return done;
}

/* The comparison with its operands exchanged. */
static BinaryOp turned(BinaryOp op) {
  if (op == BINARY_LT) return BINARY_GT;
  if (op == BINARY_LE) return BINARY_GE;
  if (op == BINARY_GT) return BINARY_LT;
  return op == BINARY_GE ? BINARY_LE : op;
}

/* A comparison that is never true of an integer beside the number that `never` makes of it, and its opposite. */
static BinaryOp compare_never(Operand *b, bool never) {
  b->number = number_of(-INFINITY); /* saturates to the smallest integer */
  return never ? BINARY_LT : BINARY_GE;
}

/* Between an integer tensor and any number a comparison is exact: the number becomes a whole one that gives the same
 * results, and saturates (core/operations.h) to the first or the last integer. Returns the operation to be done; the
 * operands may change places. */
static BinaryOp compare_exactly(BinaryOp op, Operand *a, Operand *b) {
  if (a->tensor && b->tensor) return op;
  if (!a->tensor) {
    Operand number = *a;
    *a = *b;
    *b = number;
    op = turned(op);
  }
  double number = b->number.value;
  if (dtype_is_float(a->tensor->dtype)) return op;
  if (op == BINARY_EQ || op == BINARY_NE) {
    return number_is_integer(b->number) ? op : compare_never(b, op == BINARY_EQ);
  }
  if (isnan(number)) return compare_never(b, true);
  if (number_is_integer(b->number)) return op;
  b->number = number_of(op == BINARY_LT || op == BINARY_GE ? ceil(number) : floor(number));
  if (number >= 0x1p63 && op == BINARY_LT) return BINARY_LE;
  if (number >= 0x1p63 && op == BINARY_GE) return BINARY_GT;
  if (number < -0x1p63 && op == BINARY_LE) return BINARY_LT;
  if (number < -0x1p63 && op == BINARY_GT) return BINARY_GE;
  return op;
}

/* Whether a number takes the dtype first: in floats, and where it may be the result. Other arithmetic of integers is
 * done in 64 bits. */
static bool takes_dtype(BinaryOp op, DType dtype) {
  return dtype_is_float(dtype) || op == BINARY_MAXIMUM || op == BINARY_MINIMUM;
}

static Operand operand_in(DType dtype, Operand operand) {
  if (!operand.tensor) operand.number = number_in(dtype, operand.number);
  return operand;
}

bool op_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  const Tensor *first = a.tensor ? a.tensor : b.tensor;
  if (!first) return error_set("at least one of the two arguments must be a tensor");
  int rank = 0;
  int64_t size[TENSOR_MAX_RANK];
  if (!merge_operand(a, first, &rank, size) || !merge_operand(b, first, &rank, size)) return false;
  DType dtype = promoted(a, b);
  ElementwiseClass kind = binary_class(op);
  if (takes_dtype(op, first->dtype)) {
    a = operand_in(dtype, a);
    b = operand_in(dtype, b);
  }
  dtype = elementwise_dtype(kind, dtype);
  if (kind == ELEMENTWISE_COMPARISON) op = compare_exactly(op, &a, &b);
  Tensor created = {0}, view_a, view_b;
  if (!tensor_create(&created, dtype, tensor_device(first), rank, size)) return false;
  Operand left = expand_operand(a, &view_a, &created), right = expand_operand(b, &view_b, &created);
  return hand_over(out, &created, backend_for(first)->binary(op, &created, left, right));
}

static bool check_broadcasts_to(const Tensor *x, const Tensor *other) {
  int rank = x->rank;
  int64_t size[TENSOR_MAX_RANK];
  for (int i = 0; i < rank; i++) size[i] = x->size[i];
  if (!broadcast_shape(&rank, size, other)) return false;
  bool fits = rank == x->rank;
  for (int i = 0; fits && i < rank; i++) fits = size[i] == x->size[i];
  if (fits) return true;
  char target[TENSOR_SHAPE_TEXT_MAX], text[TENSOR_SHAPE_TEXT_MAX];
  return error_set("shape %s does not broadcast to %s", tensor_shape_text(other, text), tensor_shape_text(x, target));
}

bool op_binary_in_place(BinaryOp op, Tensor *x, Operand b) {
  if (!check_writable(x)) return false;
  if (b.tensor && !(same_device(x, b.tensor) && check_broadcasts_to(x, b.tensor))) return false;
  if (!check_result(x, elementwise_dtype(binary_class(op), promoted((Operand){.tensor = x}, b)))) return false;
  Tensor separate = {0}, view;
  if (b.tensor && overlaps_partly(x, b.tensor)) {
    if (!copy_contiguous(&separate, b.tensor)) return false;
    b.tensor = &separate;
  }
  if (takes_dtype(op, x->dtype)) b = operand_in(x->dtype, b);
  bool done = backend_for(x)->binary(op, x, (Operand){.tensor = x}, expand_operand(b, &view, x));
  tensor_release(&separate);
  if (done) tensor_changed(x);
  return done;
}

bool op_where(Tensor *out, const Tensor *condition, Operand a, Operand b) {
  int rank = 0;
  int64_t size[TENSOR_MAX_RANK];
  if (!broadcast_shape(&rank, size, condition) || !merge_operand(a, condition, &rank, size) ||
      !merge_operand(b, condition, &rank, size)) {
    return false;
  }
  Tensor created = {0}, view_a, view_b;
  if (!tensor_create(&created, promoted(a, b), tensor_device(condition), rank, size)) return false;
  Tensor choice = expanded(condition, rank, size);
  Operand left = expand_operand(operand_in(created.dtype, a), &view_a, &created);
  Operand right = expand_operand(operand_in(created.dtype, b), &view_b, &created);
  return hand_over(out, &created, backend_for(condition)->where(&created, &choice, left, right));
}

bool op_clamp(Tensor *out, const Tensor *x, Number low, Number high) {
  if (isnan(low.value) || isnan(high.value)) return error_set("the limits must not be NaN");
  /* The upper limit comes last. */
  if (low.value > high.value || (low.value == high.value && low.integer > high.integer)) low = high;
  bool fraction = low.value != floor(low.value) || high.value != floor(high.value);
  Tensor created = {0};
  if (!tensor_create_like(&created, x, fraction && !dtype_is_float(x->dtype) ? DTYPE_F32 : x->dtype)) return false;
  low = number_in(created.dtype, low);
  high = number_in(created.dtype, high);
  return hand_over(out, &created, backend_for(x)->clamp(&created, x, low, high));
}

bool op_scale_in_place(Tensor *x, const Tensor *factor) {
  if (!check_compute_float(x->dtype, "the tensor") || !same_device(x, factor)) return false;
  if (!tensor_is_contiguous(x)) return error_set("a contiguous tensor is needed");
  if (factor->dtype != DTYPE_F32 || tensor_count(factor) != 1) return error_set("the factor must be one f32 element");
  if (x->storage == factor->storage) return error_set("the factor must share no memory with the tensor");
  bool done = backend_for(x)->scale(x, factor);
  if (done) tensor_changed(x);
  return done;
}
