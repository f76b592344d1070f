/* Matrix products: batch dimensions, layouts that the backends take, and float8 codes with scales. */
#include <stdio.h>

#include "ops/internal.h"

static bool report_shapes(const Tensor *a, const Tensor *b, const char *why) {
  char first[TENSOR_SHAPE_TEXT_MAX], second[TENSOR_SHAPE_TEXT_MAX];
  return error_set("shapes %s and %s: %s", tensor_shape_text(a, first), tensor_shape_text(b, second), why);
}

/* Gives dimensions of size 1 in the last two the stride that makes the matrix row-major where it can be seen so.
 * Returns whether a backend takes the matrix as it is. */
static bool normalize_matrix(Tensor *x) {
  int row = x->rank - 2, column = x->rank - 1;
  int64_t rows = x->size[row], columns = x->size[column];
  if (columns == 1 && rows != 1 && x->stride[row] == 1) {
    x->stride[column] = rows;
    return true;
  }
  if (columns == 1) x->stride[column] = 1;
  if (rows == 1 && x->stride[column] == 1) x->stride[row] = columns;
  if (rows == 1 && x->stride[column] != 1) {
    x->stride[row] = 1;
    return x->stride[column] >= 1;
  }
  bool row_major = x->stride[column] == 1 && x->stride[row] >= columns;
  bool column_major = x->stride[row] == 1 && x->stride[column] >= rows;
  return row_major || column_major;
}

/* Views the leading dimensions of `x` (rank at least 2) as one; false if their strides don't allow it. */
static bool merge_batch(Tensor *x) {
  int batch_rank = x->rank - 2;
  int64_t count = 1, stride = 0;
  for (int i = batch_rank - 1; i >= 0; i--) {
    if (x->size[i] == 1) continue;
    if (count == 1) {
      stride = x->stride[i];
    } else if (x->stride[i] != stride * count) {
      return false;
    }
    count *= x->size[i];
  }
  Tensor merged = *x;
  merged.rank = 3;
  merged.size[0] = count;
  merged.stride[0] = stride;
  for (int i = 1; i < 3; i++) {
    merged.size[i] = x->size[batch_rank + i - 1];
    merged.stride[i] = x->stride[batch_rank + i - 1];
  }
  *x = merged;
  return true;
}

/* Makes *out a (batch, rows, columns) tensor that a backend takes, with the elements of `x`, copying only where it
 * must. The caller releases it. */
static bool prepare_operand(Tensor *out, const Tensor *x) {
  Tensor view = *x;
  if (normalize_matrix(&view) && merge_batch(&view)) {
    tensor_share(out, &view);
    return true;
  }
  if (!copy_contiguous(out, x)) return false;
  normalize_matrix(out);
  return merge_batch(out);
}

bool op_matrices(Tensor *out, const Tensor *x) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (x->rank < 2) return error_set("at least 2 dimensions are needed, got shape %s", tensor_shape_text(x, text));
  Tensor view = *x;
  if (!normalize_matrix(&view) || !merge_batch(&view)) return copy_contiguous(out, x);
  tensor_share(out, x);
  return true;
}

static bool check_matmul_dtypes(const Tensor *a, const Tensor *b, const Tensor *bias, DType dtype) {
  bool supported = dtype_is_compute_float(a->dtype);
  if (a->dtype != b->dtype) return error_set("dtypes %s and %s differ", dtype_name(a->dtype), dtype_name(b->dtype));
  if (!supported) return error_set("dtype must be f32, f16 or bf16, got %s", dtype_name(a->dtype));
  if (dtype != a->dtype && dtype != DTYPE_F32) {
    return error_set("the result of %s operands can be %s or f32, not %s", dtype_name(a->dtype), dtype_name(a->dtype),
                     dtype_name(dtype));
  }
  if (bias && bias->dtype != dtype) {
    return error_set("the bias has dtype %s, the result %s", dtype_name(bias->dtype), dtype_name(dtype));
  }
  return true;
}

static bool check_bias(const Tensor *a, const Tensor *bias, int64_t columns) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!bias) return true;
  if (!same_device(a, bias)) return false;
  if (bias->rank == 1 && bias->size[0] == columns) return true;
  return error_set("a bias of shape (%lld) is needed, got %s", (long long)columns, tensor_shape_text(bias, text));
}

/* Computes into `result` (batch…, m, n), contiguous, from operands whose batch dimensions are expanded to it. */
static bool multiply(Tensor *result, const Tensor *a, const Tensor *b, const Tensor *bias) {
  Tensor left = {0}, right = {0}, addend = {0}, target = *result;
  bool done = prepare_operand(&left, a) && prepare_operand(&right, b) && merge_batch(&target) &&
              (!bias || op_contiguous(&addend, bias)) &&
              backend_for(a)->matmul(&target, &left, &right, bias ? &addend : NULL);
  tensor_release(&left);
  tensor_release(&right);
  tensor_release(&addend);
  return done;
}

/* Rows of a batch that one matrix multiplies are rows of one larger matrix. */
static bool fold_batch_into_rows(Tensor *a, const Tensor *b, Tensor *result) {
  if (b->rank != 2 || a->rank == 2 || !tensor_is_contiguous(a)) return false;
  int64_t rows = 1;
  for (int i = 0; i < a->rank - 1; i++) rows *= a->size[i];
  int64_t inner = a->size[a->rank - 1], columns = b->size[1];
  a->rank = result->rank = 2;
  a->size[0] = result->size[0] = rows;
  a->size[1] = a->stride[0] = inner;
  result->size[1] = result->stride[0] = columns;
  a->stride[1] = result->stride[1] = 1;
  return true;
}

bool op_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias, DType dtype) {
  if (!same_device(a, b) || !check_matmul_dtypes(a, b, bias, dtype)) return false;
  if (a->rank == 0 || b->rank == 0) return report_shapes(a, b, "at least one dimension is needed");
  Tensor left = *a, right = *b;
  if (a->rank == 1) {
    left = expanded(a, 2, (int64_t[]){1, a->size[0]});
  }
  if (b->rank == 1) {
    right.rank = 2;
    right.size[1] = right.stride[1] = 1;
  }
  int64_t rows = left.size[left.rank - 2], inner = left.size[left.rank - 1], columns = right.size[right.rank - 1];
  if (inner != right.size[right.rank - 2]) {
    char why[64];
    snprintf(why, sizeof why, "%lld and %lld differ", (long long)inner, (long long)right.size[right.rank - 2]);
    return report_shapes(a, b, why);
  }
  if (!check_bias(a, bias, columns)) return false;
  Tensor batch_a = left, batch_b = right;
  batch_a.rank -= 2;
  batch_b.rank -= 2;
  int batch_rank = 0;
  int64_t size[TENSOR_MAX_RANK + 2];
  if (!broadcast_shape(&batch_rank, size, &batch_a) || !broadcast_shape(&batch_rank, size, &batch_b)) return false;
  size[batch_rank] = rows;
  size[batch_rank + 1] = columns;
  Tensor created = {0};
  if (!tensor_create(&created, dtype, tensor_device(a), batch_rank + 2, size)) return false;
  Tensor result = created;
  if (!fold_batch_into_rows(&left, &right, &result)) {
    size[batch_rank + 1] = inner;
    left = expanded(&left, batch_rank + 2, size);
    size[batch_rank] = inner;
    size[batch_rank + 1] = columns;
    right = expanded(&right, batch_rank + 2, size);
  }
  if (tensor_count(&created) > 0 && !multiply(&result, &left, &right, bias)) {
    tensor_release(&created);
    return false;
  }
  if (b->rank == 1) created.rank--;
  if (a->rank == 1) {
    int row = batch_rank;
    created.rank--;
    for (int i = row; i < created.rank; i++) {
      created.size[i] = created.size[i + 1];
      created.stride[i] = created.stride[i + 1];
    }
  }
  *out = created;
  return true;
}

static bool check_codes(const Tensor *codes, const Tensor *scale, const char *name) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!dtype_is_float8(codes->dtype))
    return error_set("%s must be e4m3 or e5m2, got %s", name, dtype_name(codes->dtype));
  if (codes->rank != 2) return error_set("%s must have 2 dimensions, got %s", name, tensor_shape_text(codes, text));
  if (!same_device(codes, scale)) return false;
  int64_t count = tensor_count(scale);
  bool fits = count == 1 || count == codes->size[0] || codes->size[1] == 0; /* it scales nothing then */
  if (scale->dtype != DTYPE_F32 || !fits) {
    return error_set("the scale of %s must be f32 with 1 or %lld elements, got %s of shape %s", name,
                     (long long)codes->size[0], dtype_name(scale->dtype), tensor_shape_text(scale, text));
  }
  return true;
}

/* `scale`, contiguous, or a 0 for one without elements, which nothing is scaled by. */
static bool some_scale(Tensor *out, const Tensor *scale) {
  if (tensor_count(scale) > 0) return op_contiguous(out, scale);
  int64_t one = 1;
  return tensor_create(out, DTYPE_F32, tensor_device(scale), 1, &one) && backend_for(scale)->fill(out, 0);
}

bool op_scaled_matmul(Tensor *out, const Tensor *a, const Tensor *scale_a, const Tensor *b, const Tensor *scale_b,
                      const Tensor *bias, DType dtype, bool fast) {
  if (!same_device(a, b) || !check_codes(a, scale_a, "a") || !check_codes(b, scale_b, "b")) return false;
  if (a->size[1] != b->size[1]) return report_shapes(a, b, "the second sizes differ");
  if (!dtype_is_compute_float(dtype)) {
    return error_set("the result's dtype must be f32, f16 or bf16, got %s", dtype_name(dtype));
  }
  if (!check_bias(a, bias, b->size[0])) return false;
  if (bias && bias->dtype != dtype) {
    return error_set("the bias has dtype %s, the result %s", dtype_name(bias->dtype), dtype_name(dtype));
  }
  Tensor created = {0}, parts[5] = {{0}};
  const Tensor *inputs[5] = {a, scale_a, b, scale_b, bias};
  bool done = tensor_create(&created, dtype, tensor_device(a), 2, (int64_t[]){a->size[0], b->size[0]});
  done = done && some_scale(&parts[1], scale_a) && some_scale(&parts[3], scale_b);
  for (int i = 0; i < 5 && done; i += 2) done = !inputs[i] || op_contiguous(&parts[i], inputs[i]);
  done = done && backend_for(a)->scaled_matmul(&created, &parts[0], &parts[1], &parts[2], &parts[3],
                                               bias ? &parts[4] : NULL, fast);
  for (int i = 0; i < 5; i++) tensor_release(&parts[i]);
  return hand_over(out, &created, done);
}
