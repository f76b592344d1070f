/* Conversion between dtypes, copies between devices, and writing into existing tensors. */
#include <stdlib.h>

#include "core/formats/element.h"
#include "ops/support/apart.h"

/* Copies the bytes of one contiguous tensor to another of the same dtype and count on another device. */
static bool transfer(Tensor *out, const Tensor *x) {
  size_t bytes = (size_t)(tensor_count(x) * dtype_size(x->dtype));
  if (bytes == 0) return true;
  Device from = tensor_device(x), to = tensor_device(out);
  if (from.kind == DEVICE_CPU) return backend_of(to)->from_host(to.index, tensor_data(out), tensor_data(x), bytes);
  if (to.kind == DEVICE_CPU) return backend_of(from)->to_host(from.index, tensor_data(out), tensor_data(x), bytes);
  void *staging = host_allocate(bytes);
  if (!staging) return false;
  bool copied = backend_of(from)->to_host(from.index, staging, tensor_data(x), bytes) &&
                backend_of(to)->from_host(to.index, tensor_data(out), staging, bytes);
  free(staging);
  return copied;
}

/* A contiguous copy on x's own device. */
static bool convert_on_device(Tensor *out, const Tensor *x, DType dtype, bool saturate) {
  Tensor created = {0};
  if (!tensor_create_like(&created, x, dtype)) return false;
  return hand_over(out, &created, backend_for(x)->copy(&created, x, saturate));
}

bool copy_contiguous(Tensor *out, const Tensor *x) { return convert_on_device(out, x, x->dtype, true); }

bool op_convert(Tensor *out, const Tensor *x, DType dtype, Device device, bool saturate) {
  if (device_equal(device, tensor_device(x))) return convert_on_device(out, x, dtype, saturate);
  Tensor source = {0}, created = {0};
  bool done = op_check_device(device);
  if (done && x->dtype == dtype) {
    done = op_contiguous(&source, x);
  } else if (done) {
    done = convert_on_device(&source, x, dtype, saturate);
  }
  done = done && tensor_create(&created, dtype, device, x->rank, x->size) && transfer(&created, &source);
  tensor_release(&source);
  return hand_over(out, &created, done);
}

bool op_contiguous(Tensor *out, const Tensor *x) {
  if (!tensor_is_contiguous(x)) return copy_contiguous(out, x);
  tensor_share(out, x);
  return true;
}

static bool check_copy(const Tensor *x, const Tensor *source) {
  int rank = x->rank;
  int64_t size[TENSOR_MAX_RANK];
  for (int i = 0; i < rank; i++) size[i] = x->size[i];
  if (!check_writable(x) || !broadcast_shape(&rank, size, source)) return false;
  Tensor shape = {.rank = rank};
  for (int i = 0; i < rank; i++) shape.size[i] = size[i];
  if (tensor_same_shape(x, &shape)) return true;
  char target[TENSOR_SHAPE_TEXT_MAX], text[TENSOR_SHAPE_TEXT_MAX];
  return error_set("a source of shape %s does not broadcast to %s", tensor_shape_text(source, text),
                   tensor_shape_text(x, target));
}

/* Whether the bytes of one go to the other as they are. */
static bool is_transfer(const Tensor *x, const Tensor *source) {
  return !device_equal(tensor_device(x), tensor_device(source)) && x->dtype == source->dtype &&
         tensor_same_shape(x, source) && tensor_is_contiguous(x) && tensor_is_contiguous(source) &&
         (tensor_device(x).kind == DEVICE_CPU || tensor_device(source).kind == DEVICE_CPU);
}

/* All of a copy that takes memory: *ready is what finish_copy takes, on x's device unless it is a transfer. */
static bool prepare_copy(Tensor *ready, const Tensor *x, const Tensor *source) {
  if (!check_copy(x, source)) return false;
  if (is_transfer(x, source)) {
    tensor_share(ready, source);
    return true;
  }
  if (!device_equal(tensor_device(x), tensor_device(source))) {
    return op_convert(ready, source, source->dtype, tensor_device(x), true);
  }
  if (overlaps_partly(x, source)) return copy_contiguous(ready, source);
  tensor_share(ready, source);
  return true;
}

static bool finish_copy(Tensor *x, const Tensor *ready) {
  Tensor view = expanded(ready, x->rank, x->size);
  bool copied = is_transfer(x, ready) ? transfer(x, ready) : backend_for(x)->copy(x, &view, true);
  if (copied) tensor_changed(x);
  return copied;
}

bool op_copy_in_place(Tensor *x, const Tensor *source) {
  Tensor ready = {0};
  bool copied = prepare_copy(&ready, x, source) && finish_copy(x, &ready);
  tensor_release(&ready);
  return copied;
}

/* Whether copies may be made at once: of contiguous tensors of one dtype on one device, none in the memory of another.
 * `extent` has room for two of each. */
static bool go_together(Tensor *const *copies, const Tensor *ready, int count, Extent *extent) {
  const Tensor *first = copies[0];
  for (int i = 0; i < count; i++) {
    const Tensor *x = copies[2 * i], *source = &ready[i];
    if (x->dtype != first->dtype || source->dtype != first->dtype || !tensor_same_shape(x, source) ||
        !tensor_is_contiguous(x) || !tensor_is_contiguous(source) ||
        !device_equal(tensor_device(x), tensor_device(first)) ||
        !device_equal(tensor_device(source), tensor_device(first))) {
      return false;
    }
    extent[2 * i] = extent_of(x, true);
    extent[2 * i + 1] = extent_of(source, false);
  }
  return are_apart(extent, 2 * count);
}

/* In as few launches as the backend needs, where it can. */
static bool finish_copies(Tensor *const *copies, const Tensor *ready, int count) {
  const Backend *backend = count > 1 ? backend_for(copies[0]) : NULL;
  bool done = true;
  if (backend && backend->copy_parts) {
    Extent *extent = host_allocate(2 * (size_t)count * sizeof *extent);
    Tensor *parts = host_allocate(2 * (size_t)count * sizeof *parts);
    bool together = extent && parts && go_together(copies, ready, count, extent);
    done = extent && parts;
    for (int i = 0; i < count && together; i++) {
      parts[i] = *copies[2 * i];
      parts[count + i] = ready[i];
    }
    if (together) done = backend->copy_parts(parts, parts + count, count);
    for (int i = 0; i < count && together && done; i++) tensor_changed(copies[2 * i]);
    free(extent);
    free(parts);
    if (together || !done) return done;
  }
  for (int i = 0; i < count && done; i++) done = finish_copy(copies[2 * i], &ready[i]);
  return done;
}

bool op_change_all(Tensor *const *copies, int copy_count, Tensor *const *sums, int sum_count) {
  int count = copy_count + sum_count;
  Tensor *ready = host_allocate_zeroed((size_t)count, sizeof *ready);
  if (!ready) return false;
  bool done = true;
  for (int i = 0; i < count && done; i++) {
    Tensor *const *pair = i < copy_count ? &copies[2 * i] : &sums[2 * (i - copy_count)];
    done = prepare_copy(&ready[i], pair[0], pair[1]);
  }
  done = done && finish_copies(copies, ready, copy_count);
  for (int i = 0; i < sum_count && done; i++) {
    done = op_binary_in_place(BINARY_ADD, sums[2 * i], (Operand){.tensor = &ready[copy_count + i]});
  }
  for (int i = 0; i < count; i++) tensor_release(&ready[i]);
  free(ready);
  return done;
}

bool op_fill_in_place(Tensor *x, Number value) {
  if (!check_writable(x) || !backend_for(x)->fill(x, number_in(x->dtype, value))) return false;
  tensor_changed(x);
  return true;
}

bool op_to_host(const Tensor *x, void *data) {
  Tensor contiguous = {0};
  if (!op_contiguous(&contiguous, x)) return false;
  Device device = tensor_device(x);
  size_t bytes = (size_t)(tensor_count(x) * dtype_size(x->dtype));
  bool copied = bytes == 0 || backend_of(device)->to_host(device.index, data, tensor_data(&contiguous), bytes);
  tensor_release(&contiguous);
  return copied;
}
