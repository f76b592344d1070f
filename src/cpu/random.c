#include "cpu/random.h"

#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/vectorize.h"

VECTORIZE static void fill_blocks(RandomSource source, uint64_t first, uint32_t *restrict words, int blocks) {
  for (int i = 0; i < blocks; i++) {
    RandomBlock block = random_block(source, first + (uint64_t)i);
    words[4 * i] = block.word[0];
    words[4 * i + 1] = block.word[1];
    words[4 * i + 2] = block.word[2];
    words[4 * i + 3] = block.word[3];
  }
}

const uint32_t *random_words(RandomSource source, uint64_t first, int n, uint32_t buffer[RANDOM_WORDS]) {
  int skipped = (int)(first % 4);
  fill_blocks(source, first / 4, buffer, (skipped + n + 3) / 4);
  return buffer + skipped;
}

VECTORIZE static void share_words(uint32_t *restrict bits, const uint32_t *restrict words, int n) {
  for (int i = 0; i < n; i++) {
    bits[2 * i] = rounding_bits_of(words[i], 0);
    bits[2 * i + 1] = rounding_bits_of(words[i], 1);
  }
}

const uint32_t *rounding_bits(RandomSource source, int64_t first, int n, uint32_t buffer[RANDOM_WORDS]) {
  uint32_t words[CHUNK / 2 + 8];
  int skipped = (int)(first % 8), blocks = (skipped + n + 7) / 8;
  fill_blocks(source, (uint64_t)first / 8, words, blocks);
  share_words(buffer, words, 4 * blocks);
  return buffer + skipped;
}

VECTORIZE static void uniform_floats(float *restrict out, const uint32_t *restrict words, int bits, int n) {
  for (int i = 0; i < n; i++) out[i] = random_uniform(words[i], bits);
}

VECTORIZE static void normal_floats(float *restrict out, const uint32_t *restrict words, int n) {
  for (int i = 0; i < n; i++) out[i] = random_normal(words[i]);
}

typedef struct DrawJob {
  char *out;
  DType dtype;
  const RandomDraw *draw;
} DrawJob;

static void draw_uniform(int64_t begin, int64_t end, const void *context) {
  const DrawJob *job = context;
  uint32_t buffer[RANDOM_WORDS];
  float values[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    uniform_floats(values, random_words(job->draw->source, (uint64_t)start, n, buffer), uniform_bits(job->dtype), n);
    store_floats(job->dtype, job->out, start, n, values);
  }
}

static void draw_normal(int64_t begin, int64_t end, const void *context) {
  const DrawJob *job = context;
  uint32_t buffer[RANDOM_WORDS];
  float values[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    normal_floats(values, random_words(job->draw->source, (uint64_t)start, n, buffer), n);
    store_floats(job->dtype, job->out, start, n, values);
  }
}

static void draw_integers(int64_t begin, int64_t end, const void *context) {
  const DrawJob *job = context;
  uint32_t buffer[RANDOM_WORDS];
  int64_t values[CHUNK], low = job->draw->low;
  uint64_t range = (uint64_t)job->draw->high - (uint64_t)low;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const uint32_t *words = random_words(job->draw->source, 2 * (uint64_t)start, 2 * n, buffer);
    for (int i = 0; i < n; i++) values[i] = random_integer(words[2 * i], words[2 * i + 1], low, range);
    store_integers(job->dtype, job->out, start, n, values);
  }
}

static ParallelBody draw_of(RandomKind kind) {
  switch (kind) {
  case RANDOM_UNIFORM:
    return draw_uniform;
  case RANDOM_NORMAL:
    return draw_normal;
  case RANDOM_INTEGER:
    return draw_integers;
  }
  trap_missing_case();
}

bool cpu_random(Tensor *out, const RandomDraw *draw) {
  DrawJob job = {tensor_data(out), out->dtype, draw};
  return parallel_chunks_until(tensor_stopper(out), tensor_count(out), 4, draw_of(draw->kind), &job);
}
