/* Cross-entropy of rows of logits. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/index.h"
#include "cpu/parallel.h"
#include "cpu/softmax/row_sum.h"
#include "cpu/stream.h"
#include "cpu/vectors.h"

typedef struct CrossEntropy {
  DType logits_dtype, target_dtype, out_dtype;
  const void *logits, *target;
  float *loss;
  RowSum *statistics;
  void *dlogits;
  Stream dloss;
  int64_t classes;
} CrossEntropy;

static int64_t target_of(const CrossEntropy *job, int64_t row) {
  int64_t buffer;
  return *load_integers(job->target_dtype, job->target, row, 1, &buffer);
}

static CrossEntropy cross_entropy_job(const Tensor *logits, const Tensor *target, const Tensor *statistics) {
  return (CrossEntropy){
      .logits_dtype = logits->dtype,
      .target_dtype = target->dtype,
      .logits = tensor_data(logits),
      .target = tensor_data(target),
      .statistics = tensor_data(statistics),
      .classes = logits->size[1],
  };
}

static void cross_entropy_rows(int64_t begin, int64_t end, const void *context) {
  const CrossEntropy *job = context;
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->classes;
    RowSum total = row_sum(job->logits_dtype, job->logits, first, job->classes, 1);
    float buffer;
    float chosen = *load_floats(job->logits_dtype, job->logits, first + target_of(job, row), 1, &buffer);
    job->loss[row] = logf(total.sum) + (total.largest - chosen);
    job->statistics[row] = total;
  }
}

bool cpu_cross_entropy(Tensor *loss, Tensor *statistics, const Tensor *logits, const Tensor *target) {
  if (!check_range(target, logits->size[1], "target", "classes")) return false;
  CrossEntropy job = cross_entropy_job(logits, target, statistics);
  job.loss = tensor_data(loss);
  parallel_for(logits->size[0], job.classes * EXP_WORK, cross_entropy_rows, &job);
  return true;
}

static void cross_entropy_backward_rows(int64_t begin, int64_t end, const void *context) {
  const CrossEntropy *job = context;
  float buffer[CHUNK], out[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->classes, chosen = target_of(job, row);
    RowSum total = job->statistics[row];
    float dloss = *(const float *)stream_address(&job->dloss, row), factor = 1.0f / total.sum;
    for (int64_t start = 0; start < job->classes; start += CHUNK) {
      int n = chunk_length(job->classes, start);
      exp_minus(out, load_floats(job->logits_dtype, job->logits, first + start, n, buffer), 1, total.largest, n);
      scale_floats(out, out, factor, n);
      if (chosen >= start && chosen < start + n) out[chosen - start] -= 1.0f;
      scale_floats(out, out, dloss, n);
      store_floats(job->out_dtype, job->dlogits, first + start, n, out);
    }
  }
}

bool cpu_cross_entropy_backward(Tensor *dlogits, const Tensor *logits, const Tensor *target, const Tensor *statistics,
                                const Tensor *dloss) {
  if (!check_range(target, logits->size[1], "target", "classes")) return false;
  CrossEntropy job = cross_entropy_job(logits, target, statistics);
  job.out_dtype = dlogits->dtype;
  job.dlogits = tensor_data(dlogits);
  job.dloss = stream_of(dloss);
  parallel_for(logits->size[0], job.classes * EXP_WORK, cross_entropy_backward_rows, &job);
  return true;
}
