/* Elementwise operations: broadcasting, promotion, and outputs. */
#include <math.h>

#include "ops/internal.h"

static bool is_comparison(BinaryOp op) { return op >= BINARY_EQ && op <= BINARY_GE; }

/* A number joins a tensor's dtype, except that a fraction makes an integer tensor f32. */
static DType operand_dtype(Operand operand, DType other) {
  if (operand.tensor) return operand.tensor->dtype;
  bool whole = operand.number == floor(operand.number) && fabs(operand.number) < 0x1p62;
  return whole || dtype_is_float(other) ? other : DTYPE_F32;
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
  bool keeps_integers = op == UNARY_NEG || op == UNARY_ABS || op == UNARY_RELU;
  DType dtype = dtype_is_float(x->dtype) || keeps_integers ? x->dtype : DTYPE_F32;
  Tensor created = {0};
  if (!tensor_create_like(&created, x, dtype)) return false;
  return hand_over(out, &created, backend_for(x)->unary(op, &created, x));
}

bool op_binary(BinaryOp op, Tensor *out, Operand a, Operand b) {
  const Tensor *first = a.tensor ? a.tensor : b.tensor;
  if (!first) return error_set("at least one of the two arguments must be a tensor");
  int rank = 0;
  int64_t size[TENSOR_MAX_RANK];
  if (!merge_operand(a, first, &rank, size) || !merge_operand(b, first, &rank, size)) return false;
  DType dtype = promoted(a, b);
  if (is_comparison(op)) {
    dtype = DTYPE_U8;
  } else if ((op == BINARY_DIV || op == BINARY_POW) && !dtype_is_float(dtype)) {
    dtype = DTYPE_F32;
  }
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
  DType result = promoted((Operand){.tensor = x}, b);
  if (!dtype_is_float(x->dtype) && (dtype_is_float(result) || op == BINARY_DIV)) {
    return error_set("the result is %s, which a tensor of dtype %s can't take",
                     dtype_name(op == BINARY_DIV ? DTYPE_F32 : result), dtype_name(x->dtype));
  }
  Tensor separate = {0}, view;
  if (b.tensor && overlaps_partly(x, b.tensor)) {
    if (!copy_contiguous(&separate, b.tensor)) return false;
    b.tensor = &separate;
  }
  bool done = backend_for(x)->binary(op, x, (Operand){.tensor = x}, expand_operand(b, &view, x));
  tensor_release(&separate);
  if (done) x->storage->version++;
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
  Operand left = expand_operand(a, &view_a, &created), right = expand_operand(b, &view_b, &created);
  return hand_over(out, &created, backend_for(condition)->where(&created, &choice, left, right));
}

bool op_clamp(Tensor *out, const Tensor *x, double low, double high) {
  if (isnan(low) || isnan(high)) return error_set("the limits must not be NaN");
  if (low > high) return error_set("the lower limit %g is above the upper limit %g", low, high);
  bool fraction = low != floor(low) || high != floor(high);
  Tensor created = {0};
  if (!tensor_create_like(&created, x, fraction && !dtype_is_float(x->dtype) ? DTYPE_F32 : x->dtype)) return false;
  return hand_over(out, &created, backend_for(x)->clamp(&created, x, low, high));
}
