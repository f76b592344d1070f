/* out = condition ≠ 0 ? a : b */
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/stream.h"
#include "cpu/vectorize.h"

typedef struct Where {
  Stream out, condition, a, b;
} Where;

VECTORIZE static void choose_floats(float *restrict out, const float *condition, const float *a, const float *b,
                                    int n) {
  for (int i = 0; i < n; i++) out[i] = condition[i] != 0.0f ? a[i] : b[i];
}

VECTORIZE static void choose_integers(int64_t *restrict out, const float *condition, const int64_t *a, const int64_t *b,
                                      int n) {
  for (int i = 0; i < n; i++) out[i] = condition[i] != 0.0f ? a[i] : b[i];
}

/* Conditions of every dtype are read as float32: only zeros become zero. */
static void where_chunks(int64_t begin, int64_t end, const void *context) {
  const Where *job = context;
  Chunk out, condition, a, b;
  for (int64_t start = begin; start < end; start += CHUNK) {
    int n = chunk_length(end, start);
    const float *choice = stream_floats(&job->condition, start, n, &condition);
    if (dtype_is_float(job->out.dtype)) {
      choose_floats(out.floats, choice, stream_floats(&job->a, start, n, &a), stream_floats(&job->b, start, n, &b), n);
      stream_store_floats(&job->out, start, n, out.floats, &out);
    } else {
      choose_integers(out.integers, choice, stream_integers(&job->a, start, n, &a),
                      stream_integers(&job->b, start, n, &b), n);
      stream_store_integers(&job->out, start, n, out.integers, &out);
    }
  }
}

bool cpu_where(Tensor *out, const Tensor *condition, Operand a, Operand b) {
  Where job = {stream_of(out), stream_of(condition), stream_of_operand(&a), stream_of_operand(&b)};
  return parallel_chunks_until(tensor_stopper(out), job.out.count, 1, where_chunks, &job);
}
