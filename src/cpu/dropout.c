/* Dropout: the mask is drawn anew from its source each time, never stored. */
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/random.h"
#include "cpu/vectorize.h"

typedef struct Dropout {
  DType dtype;
  void *out;
  const void *x;
  float probability;
  RandomSource source;
} Dropout;

VECTORIZE static void drop_floats(float *restrict out, const float *restrict x, const uint32_t *restrict words,
                                  float probability, int n) {
  float scale = 1.0f / (1.0f - probability);
  for (int i = 0; i < n; i++) out[i] = x[i] * (random_uniform(words[i], 24) >= probability ? scale : 0.0f);
}

static void drop_chunks(int64_t begin, int64_t end, const void *context) {
  const Dropout *job = context;
  uint32_t words[RANDOM_WORDS];
  float buffer[CHUNK], out[CHUNK];
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const float *x = load_floats(job->dtype, job->x, start, n, buffer);
    drop_floats(out, x, random_words(job->source, (uint64_t)start, n, words), job->probability, n);
    store_floats(job->dtype, job->out, start, n, out);
  }
}

bool cpu_dropout(Tensor *out, const Tensor *x, float probability, RandomSource source) {
  Dropout job = {x->dtype, tensor_data(out), tensor_data(x), probability, source};
  parallel_chunks(tensor_count(x), 4, drop_chunks, &job);
  return true;
}
