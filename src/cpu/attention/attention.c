/* Attention a head at a time: each thread takes heads, and of a head a block of queries at a time, whose scores stay in the
 * cache between the products. All of it is float32, whatever the tensors are. In the backward pass the probabilities are
 * computed again, from the same products, so that nothing of the size of the scores is kept.
 *
 * Dao et al., "FlashAttention: fast and memory-efficient exact attention" (2022), but that a query's scores are all there
 * at once: none has to be rescaled. */
#include <omp.h>
#include <string.h>

#include "core/context.h"
#include "cpu/attention/head.h"
#include "cpu/cpu.h"
#include "cpu/matmul/product.h"
#include "cpu/matmul/reserve.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

/* Of fewer features, softmax takes most of the time, which is spread better over rows than over heads. */
enum { FEATURES_LEAST = 16 };

static bool is_suitable(const Tensor *x) {
  return dtype_is_compute_float(x->dtype) && x->size[3] >= FEATURES_LEAST && x->stride[3] == 1 && tensor_count(x) > 0;
}

bool cpu_attends(const Tensor *q, const Tensor *k, const Tensor *v) {
  return is_suitable(q) && is_suitable(k) && is_suitable(v);
}

typedef struct Heads Heads;
typedef bool (*HeadPass)(const Heads *job, int64_t head, float *scratch);

struct Heads {
  const Attention *attention;
  HeadPass pass;
  Context *context;
  float *scratch;
  size_t floats; /* of scratch, for each thread */
  int *next;     /* thread's scratch */
  bool *failed;
  const Context *stopper;
  /* forward */
  Tensor *y, *log_sums;
  /* backward */
  const AttentionGradients *gradients;
  const Tensor *dy;
};

/* No product is spread over threads, so that its bits do not depend on their number. */
static void take_heads(int64_t begin, int64_t end, const void *context) {
  const Heads *job = context;
  Context *outer = context_enter(job->context);
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  int slot = __atomic_fetch_add(job->next, 1, __ATOMIC_RELAXED);
  float *scratch = job->scratch + (size_t)slot * job->floats;
  for (int64_t head = begin; head < end; head++) {
    if (!job->pass(job, head, scratch)) __atomic_store_n(job->failed, true, __ATOMIC_RELAXED);
  }
  omp_set_num_threads(threads);
  context_enter(outer);
}

static bool run(Heads job) {
  enum { LINE = 16 }; /* floats of a cache line */
  const Tensor *q = job.attention->q, *k = job.attention->k;
  int next = 0, most = omp_get_max_threads();
  int threads = product_dnnl_takes_f32() ? most : reserve_for_product(most);
  bool failed = false;
  job.floats = (size_t)divide_up((int64_t)job.floats, LINE) * LINE;
  size_t bytes = (size_t)threads * job.floats * sizeof(float);
  job.scratch = threads > 0 ? scratch_allocate(bytes) : NULL;
  if (!job.scratch) return false;
  job.context = context_now;
  job.next = &next;
  job.failed = &failed;
  if (threads < most) omp_set_num_threads(threads);
  parallel_for(q->size[0] * q->size[1], q->size[2] * k->size[2] * (q->size[3] / 4), take_heads, &job);
  if (threads < most) omp_set_num_threads(most);
  scratch_release(job.scratch, bytes);
  return !failed;
}

static int64_t floats_of_head(const Tensor *x) { return x->size[2] * x->size[3]; }

/* The head of keys and values that belongs to a head of queries, counted through the batch. */
static int64_t key_head(const Attention *attention, int64_t head) {
  return head / (attention->q->size[1] / attention->k->size[1]);
}

static size_t block_floats(const Attention *attention) { return (size_t)(QUERY_BLOCK * attention->k->size[2]); }

/* A part of the scratch space that ends where the next one begins. */
static float *take(float **scratch, size_t floats) {
  float *part = *scratch;
  *scratch += floats;
  return part;
}

/* --- forward --- */

static size_t forward_floats(const Attention *attention) {
  int64_t features = attention->q->size[3];
  return (size_t)(floats_of_head(attention->q) + 2 * floats_of_head(attention->k) + QUERY_BLOCK * features) +
         block_floats(attention) + temporary_floats(features);
}

static bool forward_head(const Heads *job, int64_t head, float *scratch) {
  const Attention *attention = job->attention;
  int64_t features = attention->q->size[3], queries = attention->q->size[2];
  Rows q = rows_of_head(attention->q, head, take(&scratch, (size_t)floats_of_head(attention->q)));
  Rows k = rows_of_head(attention->k, key_head(attention, head), take(&scratch, (size_t)floats_of_head(attention->k)));
  Rows v = rows_of_head(attention->v, key_head(attention, head), take(&scratch, (size_t)floats_of_head(attention->v)));
  float *y = take(&scratch, (size_t)(QUERY_BLOCK * features)), *scores = take(&scratch, block_floats(attention));
  float *log_sums = (float *)tensor_data(job->log_sums) + head * queries;
  for (int64_t first = 0; first < queries; first += QUERY_BLOCK) {
    QueryBlock block = query_block(attention, head, first, scratch);
    if (context_stops(job->stopper) || !multiply_keys(&block, scores, q, k)) return false;
    scores_to_probabilities(&block, scores, attention->scale, log_sums + first);
    if (!sum_over_keys(&block, y, scores, v)) return false;
    store_rows(job->y, head, first, block.count, y);
  }
  return true;
}

bool cpu_attention(Tensor *y, Tensor *log_sums, const Attention *attention) {
  return run((Heads){.attention = attention,
                     .pass = forward_head,
                     .floats = forward_floats(attention),
                     .stopper = tensor_stopper(log_sums) ? tensor_stopper(y) : NULL,
                     .y = y,
                     .log_sums = log_sums});
}

/* --- backward --- */

static size_t backward_floats(const Attention *attention) {
  int64_t features = attention->q->size[3];
  return (size_t)(2 * floats_of_head(attention->q) + 4 * floats_of_head(attention->k) + QUERY_BLOCK * features) +
         2 * block_floats(attention) + temporary_floats(features);
}

/* With p the probabilities: dv = pᵀ·dy, dp = dy·vᵀ, ds = p (dp - Σ p dp) · scale, dq = ds·k, dk = dsᵀ·q. */
static bool backward_head(const Heads *job, int64_t head, float *scratch) {
  const Attention *attention = job->attention;
  size_t of_queries = (size_t)floats_of_head(attention->q), of_keys = (size_t)floats_of_head(attention->k);
  int64_t features = attention->q->size[3], queries = attention->q->size[2];
  Rows q = rows_of_head(attention->q, head, take(&scratch, of_queries));
  Rows dy = rows_of_head(job->dy, head, take(&scratch, of_queries));
  Rows k = rows_of_head(attention->k, key_head(attention, head), take(&scratch, of_keys));
  Rows v = rows_of_head(attention->v, key_head(attention, head), take(&scratch, of_keys));
  float *dk = take(&scratch, of_keys), *dv = take(&scratch, of_keys);
  float *dq = take(&scratch, (size_t)(QUERY_BLOCK * features));
  float *probabilities = take(&scratch, block_floats(attention)), *grads = take(&scratch, block_floats(attention));
  memset(dk, 0, 2 * of_keys * sizeof *dk);
  for (int64_t first = 0; first < queries; first += QUERY_BLOCK) {
    QueryBlock block = query_block(attention, head, first, scratch);
    if (context_stops(job->stopper) || !multiply_keys(&block, probabilities, q, k)) return false;
    scores_to_probabilities(&block, probabilities, attention->scale, NULL);
    if (!add_over_queries(&block, dv, probabilities, dy) || !multiply_keys(&block, grads, dy, v)) return false;
    to_score_gradients(&block, grads, probabilities, attention->scale);
    if (!sum_over_keys(&block, dq, grads, k) || !add_over_queries(&block, dk, grads, q)) return false;
    store_rows(job->gradients->q, head, first, block.count, dq);
  }
  store_rows(job->gradients->k, head, 0, attention->k->size[2], dk);
  store_rows(job->gradients->v, head, 0, attention->k->size[2], dv);
  return true;
}

bool cpu_attention_backward(const AttentionGradients *gradients, const AttentionBackward *backward) {
  bool may_stop = tensor_stopper(gradients->q) && tensor_stopper(gradients->k);
  return run((Heads){.attention = &backward->forward,
                     .pass = backward_head,
                     .floats = backward_floats(&backward->forward),
                     .stopper = may_stop ? tensor_stopper(gradients->v) : NULL,
                     .gradients = gradients,
                     .dy = backward->dy});
}
