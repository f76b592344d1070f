/* Tensors from nothing: filled, counted up, random, or copied from the CPU's memory. */
#include <math.h>

#include "ops/internal.h"

static RandomSource generator = {.seed = 0, .offset = 0};

bool op_full(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, double value) {
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, rank, size)) return false;
  return hand_over(out, &created, backend_of(device)->fill(&created, value));
}

bool op_from_host(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, const void *data) {
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, rank, size)) return false;
  size_t bytes = created.storage->bytes;
  return hand_over(out, &created,
                   bytes == 0 || backend_of(device)->from_host(device.index, tensor_data(&created), data, bytes));
}

bool op_arange(Tensor *out, DType dtype, Device device, double start, double stop, double step) {
  if (!isfinite(start) || !isfinite(stop) || !isfinite(step)) return error_set("start, stop and step must be finite");
  if (step == 0) return error_set("step must not be 0");
  double count = ceil((stop - start) / step);
  if (count > 0x1p53) return error_set("sizes are too large: %g elements", count);
  int64_t size = count > 0 ? (int64_t)count : 0;
  Tensor created = {0};
  if (!op_check_device(device) || !tensor_create(&created, dtype, device, 1, &size)) return false;
  return hand_over(out, &created, backend_of(device)->arange(&created, start, step));
}

void op_manual_seed(RandomSource source) { generator = source; }

RandomSource op_random_state(void) { return generator; }

static const char no_random[] = "random numbers can't be captured in a graph: every replay would draw the same ones";

bool op_check_random(void) { return !capture_is_open() || error_set("%s", no_random); }

RandomSource op_next_random(int64_t words) {
  if (capture_is_open()) capture_spoil(no_random);
  RandomSource source = generator;
  generator.offset += ((uint64_t)words + 3) / 4;
  return source;
}

static bool random_tensor(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, RandomKind kind,
                          int64_t low, uint64_t range) {
  Tensor created = {0};
  if (!op_check_random() || !op_check_device(device) || !tensor_create(&created, dtype, device, rank, size)) {
    return false;
  }
  int64_t words = tensor_count(&created) * (kind == RANDOM_INTEGER ? 2 : 1);
  RandomSource source = op_next_random(words);
  return hand_over(out, &created, backend_of(device)->random(&created, kind, source, low, range));
}

static bool check_random_dtype(DType dtype) {
  if (dtype_is_compute_float(dtype)) return true;
  return error_set("dtype must be f32, f16 or bf16, got %s", dtype_name(dtype));
}

bool op_rand(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  return check_random_dtype(dtype) && random_tensor(out, dtype, device, rank, size, RANDOM_UNIFORM, 0, 0);
}

bool op_randn(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  return check_random_dtype(dtype) && random_tensor(out, dtype, device, rank, size, RANDOM_NORMAL, 0, 0);
}

bool op_randint(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, int64_t low, int64_t high) {
  if (dtype_is_float8(dtype)) return error_set("dtype must not be a float8 type, got %s", dtype_name(dtype));
  if (low >= high) return error_set("low (%lld) must be below high (%lld)", (long long)low, (long long)high);
  return random_tensor(out, dtype, device, rank, size, RANDOM_INTEGER, low, (uint64_t)high - (uint64_t)low);
}
