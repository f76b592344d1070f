/* Reductions over any set of dimensions. */
#include "ops/support/support.h"

static DType reduced_dtype(ReduceOp op, DType dtype) {
  switch (op) {
  case REDUCE_SUM:
  case REDUCE_PROD:
    return dtype_is_integer(dtype) ? DTYPE_I64 : dtype;
  case REDUCE_MEAN:
  case REDUCE_NORM:
  case REDUCE_VAR:
  case REDUCE_STD:
    return dtype_is_integer(dtype) ? DTYPE_F32 : dtype;
  case REDUCE_MAX:
  case REDUCE_MIN:
    return dtype;
  case REDUCE_ARGMAX:
    return DTYPE_I64;
  }
  trap_missing_case();
}

static bool needs_elements(ReduceOp op) { return op == REDUCE_MAX || op == REDUCE_MIN || op == REDUCE_ARGMAX; }

bool op_reduce(ReduceOp op, double correction, Tensor *out, const Tensor *x, DimensionSet dimensions, bool keep) {
  /* Kept dimensions first, reduced ones last. */
  Tensor ordered = *x, shape = {0};
  int kept = 0, position = 0;
  int64_t reduced_count = 1;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < x->rank; i++) {
      bool reduced = dimensions & (1u << i);
      if (reduced != (pass == 1)) continue;
      ordered.size[position] = x->size[i];
      ordered.stride[position++] = x->stride[i];
      if (reduced) reduced_count *= x->size[i];
    }
    if (pass == 0) kept = position;
  }
  for (int i = 0; i < x->rank; i++) {
    bool reduced = dimensions & (1u << i);
    if (!reduced || keep) shape.size[shape.rank++] = reduced ? 1 : x->size[i];
  }
  if (reduced_count == 0 && needs_elements(op)) {
    char text[TENSOR_SHAPE_TEXT_MAX];
    return error_set("shape %s has no elements to reduce", tensor_shape_text(x, text));
  }
  Tensor created = {0};
  if (!tensor_create(&created, reduced_dtype(op, x->dtype), tensor_device(x), shape.rank, shape.size)) return false;
  Tensor result = created;
  result.rank = kept;
  int64_t stride = 1;
  for (int i = kept - 1; i >= 0; i--) {
    result.size[i] = ordered.size[i];
    result.stride[i] = stride;
    stride *= ordered.size[i];
  }
  return hand_over(out, &created, backend_for(x)->reduce(op, correction, &result, &ordered));
}
