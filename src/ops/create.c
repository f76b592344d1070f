/* Tensors from nothing: filled, counted up, or copied from the CPU's memory. */
#include <math.h>

#include "core/arange.h"
#include "core/formats/element.h"
#include "ops/support/support.h"

bool op_full(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, Number value) {
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, rank, size)) return false;
  return hand_over(out, &created, backend_of(device)->fill(&created, number_in(dtype, value)));
}

bool op_from_host(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, const void *data) {
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, rank, size)) return false;
  size_t bytes = created.storage->bytes;
  return hand_over(out, &created,
                   bytes == 0 || backend_of(device)->from_host(device.index, tensor_data(&created), data, bytes));
}

bool op_arange(Tensor *out, DType dtype, Device device, Number start, Number stop, Number step) {
  if (!isfinite(start.value) || !isfinite(stop.value) || !isfinite(step.value)) {
    return error_set("start, stop and step must be finite");
  }
  if (step.value == 0) return error_set("step must not be 0");
  double count = arange_count(start, stop, step);
  if (count > 0x1p53) return error_set("sizes are too large: %g elements", count);
  int64_t size = count > 0 ? (int64_t)count : 0;
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, 1, &size)) return false;
  return hand_over(out, &created, backend_of(device)->arange(&created, start, step));
}
