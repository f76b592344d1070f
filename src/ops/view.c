/* Views: other shapes and strides over the same storage. */
#include "ops/support/support.h"

static bool share_view(Tensor *out, const Tensor *view) {
  tensor_share(out, view);
  return true;
}

/* Copies `size` into `resolved` with the one -1 replaced so that the count of elements is `count`. */
static bool resolve_sizes(const Tensor *x, int rank, const int64_t *size, int64_t *resolved) {
  int64_t count = tensor_count(x), known = 1, nonzero = 1;
  int unknown = -1;
  char text[TENSOR_SHAPE_TEXT_MAX];
  for (int i = 0; i < rank; i++) {
    resolved[i] = size[i];
    if (size[i] == -1) {
      if (unknown >= 0) return error_set("only one size can be -1");
      unknown = i;
    } else if (size[i] < 0) {
      return error_set("size %lld of dimension %d is negative", (long long)size[i], i + 1);
    } else if (size[i] > 0 && __builtin_mul_overflow(nonzero, size[i], &nonzero)) {
      return error_set("sizes are too large: they overflow 63 bits");
    } else {
      known *= size[i];
    }
  }
  if (unknown >= 0) {
    if (known == 0 || count % known != 0) {
      return error_set("shape %s has %lld elements: no size in place of -1 fits", tensor_shape_text(x, text),
                       (long long)count);
    }
    resolved[unknown] = count / known;
  } else if (known != count) {
    return error_set("shape %s has %lld elements, the sizes asked for have %lld", tensor_shape_text(x, text),
                     (long long)count, (long long)known);
  }
  return true;
}

/* Works out strides of `view`, whose sizes are set, over the memory of `x`; false if no strides fit. Both have one
 * count of elements, not 0. Each run of x's dimensions that lies evenly in memory is split among the new dimensions. */
static bool fit_strides(const Tensor *x, Tensor *view) {
  int target = view->rank - 1;
  int64_t run = 1, stride = x->rank > 0 ? x->stride[x->rank - 1] : 1;
  for (int i = x->rank - 1; i >= 0; i--) {
    run *= x->size[i];
    bool run_ends = i == 0 || (x->size[i - 1] != 1 && x->stride[i - 1] != run * stride);
    if (!run_ends) continue;
    int64_t filled = 1;
    while (target >= 0 && (filled < run || view->size[target] == 1)) {
      view->stride[target] = filled * stride;
      filled *= view->size[target--];
    }
    if (filled != run) return false;
    if (i > 0) {
      run = 1;
      stride = x->stride[i - 1];
    }
  }
  for (; target >= 0; target--) view->stride[target] = 1;
  return true;
}

bool op_view(Tensor *out, const Tensor *x, int rank, const int64_t *size) {
  Tensor view = *x;
  view.rank = rank;
  if (!resolve_sizes(x, rank, size, view.size)) return false;
  if (tensor_count(x) == 0) {
    for (int i = 0; i < rank; i++) view.stride[i] = 1;
  } else if (!fit_strides(x, &view)) {
    char text[TENSOR_SHAPE_TEXT_MAX];
    return error_set(
        "the strides of this tensor of shape %s don't allow the view; use :reshape() or :contiguous() first",
        tensor_shape_text(x, text));
  }
  return share_view(out, &view);
}

bool op_transpose(Tensor *out, const Tensor *x, int dimension, int other) {
  Tensor view = transposed(x, dimension, other);
  return share_view(out, &view);
}

bool op_permute(Tensor *out, const Tensor *x, const int *dimensions) {
  Tensor view = *x;
  DimensionSet seen = 0;
  for (int i = 0; i < x->rank; i++) {
    if (seen & (1u << dimensions[i])) return error_set("dimension %d is given twice", dimensions[i] + 1);
    seen |= 1u << dimensions[i];
    view.size[i] = x->size[dimensions[i]];
    view.stride[i] = x->stride[dimensions[i]];
  }
  return share_view(out, &view);
}

bool op_narrow(Tensor *out, const Tensor *x, int dimension, int64_t start, int64_t length, int64_t step) {
  int64_t size = x->size[dimension];
  if (length < 0) return error_set("length must be at least 0, got %lld", (long long)length);
  if (step < 1) return error_set("the step must be at least 1, got %lld", (long long)step);
  bool fits = start >= 0 && start <= size && (length == 0 || (start < size && length - 1 <= (size - 1 - start) / step));
  if (!fits) {
    return error_set("%lld elements from position %lld leave dimension %d of size %lld", (long long)length,
                     (long long)start + 1, dimension + 1, (long long)size);
  }
  Tensor view = *x;
  view.size[dimension] = length;
  view.offset += start * x->stride[dimension];
  if (length > 1) view.stride[dimension] *= step;
  return share_view(out, &view);
}

bool op_windows(Tensor *out, const Tensor *x, int dimension, int64_t size, int64_t step) {
  int64_t length = x->size[dimension];
  if (x->rank == TENSOR_MAX_RANK)
    return error_set("%d dimensions are too many: at most %d", x->rank + 1, TENSOR_MAX_RANK);
  if (size < 0 || size > length) {
    return error_set("windows of size %lld do not fit dimension %d of size %lld", (long long)size, dimension + 1,
                     (long long)length);
  }
  if (step < 1) return error_set("the step must be at least 1, got %lld", (long long)step);
  Tensor view = *x;
  view.size[dimension] = (length - size) / step + 1;
  view.size[x->rank] = size;
  view.stride[x->rank] = x->stride[dimension];
  /* Of a single window no stride is looked at, and a long step might overflow. */
  if (view.size[dimension] > 1) view.stride[dimension] *= step;
  view.rank++;
  return share_view(out, &view);
}

bool op_select(Tensor *out, const Tensor *x, int dimension, int64_t position) {
  if (position < 0 || position >= x->size[dimension]) {
    return error_set("position %lld is out of range: dimension %d has size %lld", (long long)position + 1,
                     dimension + 1, (long long)x->size[dimension]);
  }
  Tensor view = *x;
  view.offset += position * x->stride[dimension];
  view.rank--;
  for (int i = dimension; i < view.rank; i++) {
    view.size[i] = x->size[i + 1];
    view.stride[i] = x->stride[i + 1];
  }
  return share_view(out, &view);
}

bool op_expand(Tensor *out, const Tensor *x, int rank, const int64_t *size) {
  int64_t target[TENSOR_MAX_RANK], count = 1;
  int added = rank - x->rank;
  if (added < 0) return error_set("%d sizes are too few for a tensor of %d dimensions", rank, x->rank);
  for (int i = 0; i < rank; i++) {
    int64_t own = i >= added ? x->size[i - added] : 1;
    target[i] = size[i] == -1 && i >= added ? own : size[i];
    if (target[i] < 0) return error_set("size %lld of dimension %d is negative", (long long)target[i], i + 1);
    if (own != 1 && own != target[i]) {
      return error_set("dimension %d has size %lld: only a dimension of size 1 expands to %lld", i + 1, (long long)own,
                       (long long)target[i]);
    }
    if (target[i] > 0 && __builtin_mul_overflow(count, target[i], &count)) {
      return error_set("sizes are too large: they overflow 63 bits");
    }
  }
  Tensor view = expanded(x, rank, target);
  return share_view(out, &view);
}

bool op_squeeze(Tensor *out, const Tensor *x, DimensionSet dimensions) {
  Tensor view = *x;
  view.rank = 0;
  for (int i = 0; i < x->rank; i++) {
    if (x->size[i] == 1 && (dimensions & (1u << i))) continue;
    view.size[view.rank] = x->size[i];
    view.stride[view.rank++] = x->stride[i];
  }
  return share_view(out, &view);
}

bool op_unsqueeze(Tensor *out, const Tensor *x, int dimension) {
  if (x->rank == TENSOR_MAX_RANK)
    return error_set("%d dimensions are too many: at most %d", x->rank + 1, TENSOR_MAX_RANK);
  Tensor view = with_dimension(x, dimension);
  return share_view(out, &view);
}
