/* Random tensors, and the generator of a context. */
#include "core/context.h"
#include "ops/support/support.h"

void op_manual_seed(RandomSource source) { context_now->generator = source; }

RandomSource op_random_state(void) { return context_now->generator; }

static const char no_random[] = "random numbers can't be captured in a graph: every replay would draw the same ones";

bool op_check_random(void) { return !capture_open() || error_set("%s", no_random); }

RandomSource op_next_random(int64_t words) {
  if (capture_open()) capture_spoil(no_random);
  RandomSource *generator = &context_now->generator, source = *generator;
  generator->offset += ((uint64_t)words + 3) / 4;
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

bool op_rand(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  return check_compute_float(dtype, "dtype") && random_tensor(out, dtype, device, rank, size, RANDOM_UNIFORM, 0, 0);
}

bool op_randn(Tensor *out, DType dtype, Device device, int rank, const int64_t *size) {
  return check_compute_float(dtype, "dtype") && random_tensor(out, dtype, device, rank, size, RANDOM_NORMAL, 0, 0);
}

bool op_randint(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, int64_t low, int64_t high) {
  if (dtype_is_float8(dtype)) return error_set("dtype must not be a float8 type, got %s", dtype_name(dtype));
  if (low >= high) return error_set("low (%lld) must be below high (%lld)", (long long)low, (long long)high);
  return random_tensor(out, dtype, device, rank, size, RANDOM_INTEGER, low, (uint64_t)high - (uint64_t)low);
}
