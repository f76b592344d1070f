/* Random tensors, and the generator of a context. */
#include <string.h>

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

bool op_next_live_random(RandomSource *source, const Tensor **live, Device device, int64_t words) {
  const int64_t fields = UPDATE_FIELDS;
  Capture *capture = capture_open();
  *live = NULL;
  if (!capture || !capture_owns(device)) {
    *source = op_next_random(words);
    return true;
  }
  CaptureRandom *random = capture_random(capture);
  if (!random->live.storage && !op_create_lasting(&random->live, DTYPE_F32, device, 1, &fields)) return false;
  *source = (RandomSource){.seed = 0, .offset = random->blocks};
  *live = &random->live;
  random->blocks += ((uint64_t)words + 3) / 4;
  return true;
}

bool op_draw_signs(HadamardRule *rule) {
  RandomSource source;
  const Tensor *live;
  Device device = capture_open() ? capture_device(capture_open()) : (Device){0};
  if (!op_next_live_random(&source, &live, device, HADAMARD_MOST / 32)) return false;
  if (live) {
    rule->drawn = source.offset + 1;
    return true;
  }
  RandomBlock block = random_block(source, 0);
  memcpy(rule->negative, block.word, sizeof rule->negative);
  return true;
}

bool op_store_live_random(CaptureRandom *random) {
  const RandomSource *generator = &context_now->generator;
  uint32_t words[UPDATE_FIELDS] = {(uint32_t)generator->seed, (uint32_t)(generator->seed >> 32),
                                   (uint32_t)generator->offset, (uint32_t)(generator->offset >> 32)};
  return random->blocks == 0 || backend_for(&random->live)->store_words(&random->live, words);
}

void op_draw_live_random(const CaptureRandom *random) { context_now->generator.offset += random->blocks; }

/* The whole numbers that a dtype holds without gaps, for those that integers can be drawn in. */
static void whole_range(DType dtype, int64_t *low, int64_t *high) {
  switch (dtype) {
  case DTYPE_F32:
  case DTYPE_F16:
  case DTYPE_BF16:
    *high = (int64_t)1 << uniform_bits(dtype); /* as many bits as the significand has */
    *low = -*high;
    return;
  case DTYPE_U8:
    *low = 0;
    *high = UINT8_MAX;
    return;
  case DTYPE_I32:
    *low = INT32_MIN;
    *high = INT32_MAX;
    return;
  case DTYPE_I64:
    *low = INT64_MIN;
    *high = INT64_MAX;
    return;
  case DTYPE_E4M3:
  case DTYPE_E5M2:
    break;
  }
  trap_missing_case();
}

static bool check_draw(DType dtype, const RandomDraw *draw) {
  if (draw->kind != RANDOM_INTEGER) return check_compute_float(dtype, "dtype");
  if (dtype_is_float8(dtype)) return error_set("dtype must not be a float8 type, got %s", dtype_name(dtype));
  if (draw->low >= draw->high) {
    return error_set("low (%lld) must be below high (%lld)", (long long)draw->low, (long long)draw->high);
  }
  int64_t low, high;
  whole_range(dtype, &low, &high);
  return (draw->low >= low && draw->high - 1 <= high) ||
         error_set("%s does not hold all integers from %lld to %lld: it does from %lld to %lld", dtype_name(dtype),
                   (long long)draw->low, (long long)(draw->high - 1), (long long)low, (long long)high);
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
