/* Cross-entropy of rows of logits. */
#include "cpu/cpu.h"
#include "cpu/parallel.h"
#include "cpu/softmax/row_sum.h"
#include "cpu/stream.h"
#include "cpu/vectors.h"

typedef struct Job {
  const CrossEntropy *rows;
  const void *logits;
  int64_t classes;
  float sum_of_weights;
  float *loss;        /* NULL in the backward pass */
  RowSum *statistics; /* NULL where the gradient is made at once */
  void *dlogits;      /* NULL in the forward pass */
  Stream dloss;
} Job;

static int64_t label_of(const CrossEntropy *rows, int64_t row) {
  int64_t buffer;
  return *load_integers(rows->target->dtype, tensor_data(rows->target), row, 1, &buffer);
}

static bool is_ignored(const CrossEntropy *rows, int64_t label) { return rows->ignored && label == *rows->ignored; }

static const float *weights_of(const Job *job) { return job->rows->weight ? tensor_data(job->rows->weight) : NULL; }

static SoftTarget target_of(const Job *job, int64_t label) {
  const float *weight = weights_of(job);
  return soft_target(weight ? weight[label] : 1.0f, job->rows->smoothing, job->classes);
}

static float sum_of_target(const Job *job, SoftTarget target) {
  return job->rows->weight ? soft_target_sum(target, job->sum_of_weights) : 1.0f;
}

/* Σ share · w[c] · (x[c] - pivot) over a row. */
static float weighed_differences(const Job *job, int64_t first, float pivot, float share) {
  float buffer[CHUNK], differences[CHUNK];
  const float *weight = weights_of(job);
  double sum = 0;
  for (int64_t start = 0; start < job->classes; start += CHUNK) {
    int n = chunk_length(job->classes, start);
    const float *x = load_floats(job->rows->logits->dtype, job->logits, first + start, n, buffer);
    for (int i = 0; i < n; i++) differences[i] = x[i] - pivot;
    if (weight) multiply_floats(differences, differences, weight + start, n);
    sum += sum_floats(differences, n);
  }
  return (float)(sum * (double)share);
}

static float row_loss(const Job *job, int64_t first, int64_t label, RowSum total) {
  float buffer;
  float chosen = *load_floats(job->rows->logits->dtype, job->logits, first + label, 1, &buffer);
  SoftTarget target = target_of(job, label);
  float differences = target.share == 0 ? 0 : weighed_differences(job, first, logit_pivot(chosen), target.share);
  LogitSums sums = {total.largest, total.sum, differences};
  return cross_entropy_loss(sums, target, sum_of_target(job, target), chosen);
}

/* Rows of so many classes keep their exponentials from the loss for the gradient, 64 KiB of a thread's stack. */
enum { KEPT_CLASSES = 16384 };

/* Writes the gradient of a row whose loss has the gradient `dloss`; `factor` is Σ q over the sum of exponentials, which are
 * in `kept` if that is not NULL. */
static void row_gradient(const Job *job, int64_t first, int64_t label, float largest, float factor, float dloss,
                         const float *kept) {
  float buffer[CHUNK], out[CHUNK];
  DType dtype = job->rows->logits->dtype;
  SoftTarget target = target_of(job, label);
  const float *weight = weights_of(job);
  for (int64_t start = 0; start < job->classes; start += CHUNK) {
    int n = chunk_length(job->classes, start);
    if (!kept) exp_minus(out, load_floats(dtype, job->logits, first + start, n, buffer), 1, largest, n);
    scale_floats(out, kept ? kept + start : out, factor, n);
    if (label >= start && label < start + n) out[label - start] -= target.own;
    if (target.share != 0) {
      for (int i = 0; i < n; i++) out[i] -= target.share * (weight ? weight[start + i] : 1.0f);
    }
    scale_floats(out, out, dloss, n);
    store_floats(dtype, job->dlogits, first + start, n, out);
  }
}

static void ignore_row(const Job *job, int64_t row) {
  static const float zeros[CHUNK];
  if (job->loss) job->loss[row] = 0;
  if (job->statistics && job->loss) job->statistics[row] = (RowSum){0, 1};
  for (int64_t start = 0; job->dlogits && start < job->classes; start += CHUNK) {
    int n = chunk_length(job->classes, start);
    store_floats(job->rows->logits->dtype, job->dlogits, row * job->classes + start, n, zeros);
  }
}

static void compute_rows(int64_t begin, int64_t end, const void *context) {
  const Job *job = context;
  float exponentials[KEPT_CLASSES];
  float *kept = job->loss && job->dlogits && job->classes <= KEPT_CLASSES ? exponentials : NULL;
  const Tensor *logits = job->rows->logits;
  bool fetched = is_fetched(tensor_count(logits) * dtype_size(logits->dtype));
  for (int64_t row = begin; row < end; row++) {
    int64_t first = row * job->classes, label = label_of(job->rows, row);
    if (is_ignored(job->rows, label)) {
      ignore_row(job, row);
      continue;
    }
    RowSum total;
    if (job->loss) {
      total = row_sum(logits->dtype, job->logits, first, job->classes, 1, kept, fetched ? first + job->classes : 0);
      job->loss[row] = row_loss(job, first, label, total);
      total.sum /= sum_of_target(job, target_of(job, label));
      if (job->statistics) job->statistics[row] = total;
    } else {
      total = job->statistics[row];
    }
    if (!job->dlogits) continue;
    float dloss = *(const float *)stream_address(&job->dloss, row);
    row_gradient(job, first, label, total.largest, 1.0f / total.sum, dloss, kept);
  }
}

static bool check_labels(const CrossEntropy *rows) {
  int64_t classes = rows->logits->size[1];
  for (int64_t row = 0; row < rows->logits->size[0]; row++) {
    int64_t label = label_of(rows, row);
    if (is_ignored(rows, label) || (label >= 0 && label < classes)) continue;
    return error_set("target %lld is out of range: there are %lld classes", (long long)label, (long long)classes);
  }
  return true;
}

static bool run(Job job, const CrossEntropy *rows) {
  if (!check_labels(rows)) return false;
  job.rows = rows;
  job.logits = tensor_data(rows->logits);
  job.classes = rows->logits->size[1];
  for (int64_t start = 0; rows->weight && start < job.classes; start += CHUNK) {
    job.sum_of_weights += (float)sum_floats(weights_of(&job) + start, chunk_length(job.classes, start));
  }
  parallel_for(rows->logits->size[0], job.classes * EXP_WORK, compute_rows, &job);
  return true;
}

bool cpu_cross_entropy(Tensor *loss, Tensor *statistics, const CrossEntropy *rows) {
  return run((Job){.loss = tensor_data(loss), .statistics = tensor_data(statistics)}, rows);
}

bool cpu_cross_entropy_backward(Tensor *dlogits, const CrossEntropy *rows, const Tensor *statistics,
                                const Tensor *dloss) {
  return run((Job){.statistics = tensor_data(statistics), .dlogits = tensor_data(dlogits), .dloss = stream_of(dloss)},
             rows);
}

bool cpu_cross_entropy_gradient(Tensor *loss, Tensor *dlogits, const CrossEntropy *rows, const Tensor *dloss) {
  return run((Job){.loss = tensor_data(loss), .dlogits = tensor_data(dlogits), .dloss = stream_of(dloss)}, rows);
}
