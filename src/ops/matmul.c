/* Matrix products: batch dimensions, and layouts that the backends take. */
#include <stdio.h>

#include "ops/support/product.h"

bool report_shapes(const Tensor *a, const Tensor *b, const char *why) {
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

static bool check_matmul_dtypes(const Tensor *a, const Tensor *b, DType dtype) {
  if (a->dtype != b->dtype) {
    const char *left = dtype_name(a->dtype), *right = dtype_name(b->dtype);
    if (!dtype_is_compute_float(a->dtype) || !dtype_is_compute_float(b->dtype))
      return error_set("dtypes %s and %s differ", left, right);
    return error_set("dtypes %s and %s differ: write a:to \"%s\" or b:to \"%s\"", left, right, right, left);
  }
  if (!check_compute_float(a->dtype, "dtype")) return false;
  if (dtype != a->dtype && dtype != DTYPE_F32) {
    return error_set("the result of %s operands can be %s or f32, not %s", dtype_name(a->dtype), dtype_name(a->dtype),
                     dtype_name(dtype));
  }
  return true;
}

bool check_bias(const Tensor *a, const Tensor *bias, int64_t columns, DType dtype) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!bias) return true;
  if (!same_device(a, bias)) return false;
  if (bias->dtype != dtype) {
    return error_set("the bias has dtype %s, the result %s", dtype_name(bias->dtype), dtype_name(dtype));
  }
  if (bias->rank == 1 && bias->size[0] == columns) return true;
  return error_set("a bias of shape (%lld) is needed, got %s", (long long)columns, tensor_shape_text(bias, text));
}

/* Rows of a batch that one matrix multiplies are rows of one larger matrix, if they lie in memory like that. */
static void fold_batch_into_rows(Tensor *a, Tensor *b, Tensor *result) {
  bool row_major = a->stride[2] == 1 || a->size[2] == 1;
  if (a->size[0] <= 1 || b->stride[0] != 0 || !row_major) return;
  int64_t row_stride = a->size[1] == 1 ? a->stride[0] : a->stride[1];
  if (row_stride < a->size[2] || a->stride[0] != a->size[1] * row_stride) return;
  a->size[1] *= a->size[0];
  a->stride[1] = row_stride;
  result->size[1] = a->size[1];
  a->size[0] = b->size[0] = result->size[0] = 1;
  normalize_matrix(a);
}

/* Computes into `result` (batch…, m, n), contiguous, from operands whose batch dimensions are expanded to it. */
static bool multiply(Tensor *result, const Tensor *a, const Tensor *b, const Tensor *bias) {
  Tensor left = {0}, right = {0}, addend = {0}, target = *result;
  bool done = prepare_operand(&left, a) && prepare_operand(&right, b) && merge_batch(&target) &&
              (!bias || op_contiguous(&addend, bias));
  if (done) {
    fold_batch_into_rows(&left, &right, &target);
    done = backend_for(a)->matmul(&target, &left, &right, bias ? &addend : NULL);
  }
  tensor_release(&left);
  tensor_release(&right);
  tensor_release(&addend);
  return done;
}

bool op_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias, DType dtype) {
  if (!same_device(a, b) || !check_matmul_dtypes(a, b, dtype)) return false;
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
  if (!check_bias(a, bias, columns, dtype)) return false;
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
  size[batch_rank + 1] = inner;
  left = expanded(&left, batch_rank + 2, size);
  size[batch_rank] = inner;
  size[batch_rank + 1] = columns;
  right = expanded(&right, batch_rank + 2, size);
  if (tensor_count(&created) > 0 && !multiply(&created, &left, &right, bias)) {
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

bool op_matmul_add(Tensor *out, const Tensor *a, const Tensor *b) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(a, b) || !same_device(a, out) || !check_matmul_dtypes(a, b, out->dtype)) return false;
  if (a->rank != 2 || b->rank != 2 || a->size[1] != b->size[0])
    return report_shapes(a, b, "matrices of which the first has as many columns as the second has rows are needed");
  bool fits = out->rank == 2 && out->size[0] == a->size[0] && out->size[1] == b->size[1];
  if (!fits || out->dtype != DTYPE_F32 || !tensor_is_contiguous(out)) {
    return error_set("the sum must be contiguous f32 of shape (%lld, %lld), got %s %s", (long long)a->size[0],
                     (long long)b->size[1], dtype_name(out->dtype), tensor_shape_text(out, text));
  }
  if (out->storage == a->storage || out->storage == b->storage) {
    return error_set("the sum must share no memory with the factors");
  }
  if (tensor_count(out) == 0 || a->size[1] == 0) return true;
  Tensor left = {0}, right = {0}, target = *out;
  bool done = prepare_operand(&left, a) && prepare_operand(&right, b) && merge_batch(&target) &&
              backend_for(a)->matmul_add(&target, &left, &right);
  tensor_release(&left);
  tensor_release(&right);
  if (done) tensor_changed(out);
  return done;
}

static bool mend(Tensor *result, const Tensor *a, const Tensor *b, bool lower) {
  Tensor left = {0}, right = {0}, target = *result;
  bool done = prepare_operand(&left, a) && prepare_operand(&right, b) && merge_batch(&target) &&
              backend_for(a)->mend_triangle(&target, &left, &right, lower);
  tensor_release(&left);
  tensor_release(&right);
  return done;
}

bool op_triangle_matmul(Tensor *out, const Tensor *a, const Tensor *b, bool lower) {
  bool fits = a->rank >= 2 && a->rank == b->rank;
  for (int i = 0; fits && i < a->rank - 2; i++) fits = a->size[i] == b->size[i];
  if (!fits) return report_shapes(a, b, "the same leading dimensions are needed");
  Tensor created = {0};
  if (!op_matmul(&created, a, b, NULL, a->dtype)) return false;
  bool done = tensor_count(&created) == 0 || mend(&created, a, b, lower);
  return hand_over(out, &created, done);
}
