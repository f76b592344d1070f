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

static bool check_draw(DType dtype, const RandomDraw *draw) {
  if (draw->kind != RANDOM_INTEGER) return check_compute_float(dtype, "dtype");
  if (dtype_is_float8(dtype)) return error_set("dtype must not be a float8 type, got %s", dtype_name(dtype));
  return draw->low < draw->high ||
         error_set("low (%lld) must be below high (%lld)", (long long)draw->low, (long long)draw->high);
}

bool op_random(Tensor *out, DType dtype, Device device, int rank, const int64_t *size, RandomDraw draw) {
  Tensor created = {0};
  if (!check_draw(dtype, &draw) || !op_check_random() || !op_check_device(device) ||
      !tensor_create(&created, dtype, device, rank, size)) {
    return false;
  }
  draw.source = op_next_random(tensor_count(&created) * (draw.kind == RANDOM_INTEGER ? 2 : 1));
  return hand_over(out, &created, backend_of(device)->random(&created, &draw));
}
