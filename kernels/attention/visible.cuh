/* Rows of results once more, from what they see alone.
 *
 * Tiles of a causal mask have hidden positions, whose weights are 0; but 0 · NaN is NaN. So a warp that finds a row of
 * its results not finite computes it again, one visible position after the other. Where everything is finite, which is
 * always but for a fault, the search costs an instruction for each number of a result. */
#ifndef FP8_ATTENTION_VISIBLE_CUH
#define FP8_ATTENTION_VISIBLE_CUH

#include "attention/attention.cuh"

namespace {

/* A row of a head over a warp: each lane has FEATURES / 32 neighbours. */
template <int FEATURES> constexpr int lane_features = FEATURES / WARP;

template <typename Scalar, int FEATURES>
__device__ inline void load_row(float (&row)[lane_features<FEATURES>], const HeadRows &rows, int position) {
  const uint16_t *from = rows.data + position * rows.stride + threadIdx.x % WARP * lane_features<FEATURES>;
#pragma unroll
  for (int k = 0; k < lane_features<FEATURES>; k++) row[k] = to_float(reinterpret_cast<const Scalar *>(from)[k]);
}

template <typename Scalar, int FEATURES>
__device__ inline void store_row(const AttentionPlan &plan, const HeadRows &rows, int position,
                                 const float (&row)[lane_features<FEATURES>], float factor) {
  uint16_t *to = rows.data + position * rows.stride + threadIdx.x % WARP * lane_features<FEATURES>;
  uint32_t largest = 0;
#pragma unroll
  for (int k = 0; k < lane_features<FEATURES>; k++) {
    const uint32_t word = pack_word(row[k] * factor, 0.0f, Scalar());
    largest = raise<Scalar>(largest, word);
    to[k] = (uint16_t)word;
  }
  note_maximum<Scalar>(plan, largest);
}

template <int COUNT> __device__ inline float warp_dot(const float (&a)[COUNT], const float (&b)[COUNT]) {
  float sum = 0;
#pragma unroll
  for (int k = 0; k < COUNT; k++) sum = fmaf(a[k], b[k], sum);
#pragma unroll
  for (int mask = WARP / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  return sum;
}

template <int COUNT> __device__ inline void add_times(float (&sum)[COUNT], float factor, const float (&x)[COUNT]) {
#pragma unroll
  for (int k = 0; k < COUNT; k++) sum[k] = fmaf(factor, x[k], sum[k]);
}

/* The probability of a key for a query whose log_sum is known. */
__device__ inline float probability_of(const AttentionPlan &plan, const HeadTile &place, int query, int key,
                                       float product, float log_sum) {
  const float bias = plan.mask.data ? mask_bias(plan.mask, place.batch, place.head, query, key) : 0.0f;
  return power_of_two(fmaf(product, plan.scale_log2, bias - log_sum));
}

/* y of one query, whose log_sum is known. */
template <typename Scalar, int FEATURES>
__device__ inline void attend_again(const AttentionPlan &plan, const HeadTile &place, int query) {
  const HeadRows keys = rows_of(plan.k, place.batch, place.key_head, plan.keys);
  const HeadRows values = rows_of(plan.v, place.batch, place.key_head, plan.keys);
  const float log_sum = plan.log_sums[place.both * plan.queries + query];
  float q[lane_features<FEATURES>], k[lane_features<FEATURES>], v[lane_features<FEATURES>];
  float y[lane_features<FEATURES>] = {};
  load_row<Scalar, FEATURES>(q, rows_of(plan.q, place.batch, place.head, plan.queries), query);
#pragma unroll 1
  for (int key = 0; key <= query + plan.keys - plan.queries; key++) {
    load_row<Scalar, FEATURES>(k, keys, key);
    load_row<Scalar, FEATURES>(v, values, key);
    add_times(y, probability_of(plan, place, query, key, warp_dot(q, k), log_sum), v);
  }
  store_row<Scalar, FEATURES>(plan, rows_of(plan.y, place.batch, place.head, plan.queries), query, y, 1);
}

/* dq of one query. */
template <typename Scalar, int FEATURES>
__device__ inline void find_query_grad_again(const AttentionPlan &plan, const HeadTile &place, int query) {
  const HeadRows keys = rows_of(plan.k, place.batch, place.key_head, plan.keys);
  const HeadRows values = rows_of(plan.v, place.batch, place.key_head, plan.keys);
  const float log_sum = plan.log_sums[place.both * plan.queries + query];
  const float delta = plan.deltas[place.both * plan.queries + query];
  float q[lane_features<FEATURES>], dy[lane_features<FEATURES>], k[lane_features<FEATURES>], v[lane_features<FEATURES>];
  float dq[lane_features<FEATURES>] = {};
  load_row<Scalar, FEATURES>(q, rows_of(plan.q, place.batch, place.head, plan.queries), query);
  load_row<Scalar, FEATURES>(dy, rows_of(plan.dy, place.batch, place.head, plan.queries), query);
#pragma unroll 1
  for (int key = 0; key <= query + plan.keys - plan.queries; key++) {
    load_row<Scalar, FEATURES>(k, keys, key);
    load_row<Scalar, FEATURES>(v, values, key);
    const float probability = probability_of(plan, place, query, key, warp_dot(q, k), log_sum);
    add_times(dq, probability * (warp_dot(dy, v) - delta), k);
  }
  store_row<Scalar, FEATURES>(plan, rows_of(plan.dq, place.batch, place.head, plan.queries), query, dq, plan.scale);
}

/* dk and dv of one key. */
template <typename Scalar, int FEATURES>
__device__ inline void find_key_grads_again(const AttentionPlan &plan, const HeadTile &place, int key) {
  const HeadRows queries = rows_of(plan.q, place.batch, place.head, plan.queries);
  const HeadRows grads = rows_of(plan.dy, place.batch, place.head, plan.queries);
  const float *log_sums = plan.log_sums + place.both * plan.queries, *deltas = plan.deltas + place.both * plan.queries;
  float k[lane_features<FEATURES>], v[lane_features<FEATURES>], q[lane_features<FEATURES>], dy[lane_features<FEATURES>];
  float dk[lane_features<FEATURES>] = {}, dv[lane_features<FEATURES>] = {};
  load_row<Scalar, FEATURES>(k, rows_of(plan.k, place.batch, place.key_head, plan.keys), key);
  load_row<Scalar, FEATURES>(v, rows_of(plan.v, place.batch, place.key_head, plan.keys), key);
#pragma unroll 1
  for (int query = max(key - (plan.keys - plan.queries), 0); query < plan.queries; query++) {
    load_row<Scalar, FEATURES>(q, queries, query);
    load_row<Scalar, FEATURES>(dy, grads, query);
    const float probability = probability_of(plan, place, query, key, warp_dot(q, k), log_sums[query]);
    add_times(dv, probability, dy);
    add_times(dk, probability * (warp_dot(dy, v) - deltas[query]), q);
  }
  store_row<Scalar, FEATURES>(plan, rows_of(plan.dk, place.batch, place.head, plan.keys), key, dk, plan.scale);
  store_row<Scalar, FEATURES>(plan, rows_of(plan.dv, place.batch, place.head, plan.keys), key, dv, 1);
}

/* The lanes whose part of the upper (half 0) or lower 8 of 16 rows is not finite: four lanes hold a row. */
template <int FRAGMENTS> __device__ inline uint32_t broken_lanes(const float (&result)[FRAGMENTS][4], int half) {
  float sum = 0;
#pragma unroll
  for (int n = 0; n < FRAGMENTS; n++) {
    sum = fmaf(result[n][2 * half], 0.0f, sum);
    sum = fmaf(result[n][2 * half + 1], 0.0f, sum);
  }
  return __ballot_sync(~0u, sum != 0.0f);
}

/* Ends what was stored of 16 rows from `first` on, of which a half has a running maximum and broken lanes: again(row) for
 * each row of `count` that has some, and the maximum of the others to the plan. */
template <typename Scalar, typename Again>
__device__ inline void finish_rows(const AttentionPlan &plan, const uint32_t (&largest)[2], uint32_t upper,
                                   uint32_t lower, int first, int count, Again again) {
  const int row_of_lane = threadIdx.x % WARP / 4;
  const uint32_t kept_upper = upper >> 4 * row_of_lane & 15 ? 0 : largest[0];
  const uint32_t kept_lower = lower >> 4 * row_of_lane & 15 ? 0 : largest[1];
  note_maximum<Scalar>(plan, raise<Scalar>(kept_upper, kept_lower));
  if ((upper | lower) == 0) return;
#pragma unroll 1
  for (int row = 0; row < 16 && first + row < count; row++) {
    if ((row < 8 ? upper : lower) >> row % 8 * 4 & 15) again(first + row);
  }
}

/* --- the ends of tiles: a warp's 16 rows of results are stored, and those with a broken lane once more --- */

/* y and the log_sums, of weights 2^(scale · score). Those of a query that sees no key are 0 and infinity, which makes all
 * probabilities 0. */
template <typename Scalar, int FEATURES>
__device__ inline void finish_queries(const AttentionPlan &plan, const HeadTile &place, int first,
                                      const float (&result)[FEATURES / 8][4], const float (&maximum)[2],
                                      float (&sum)[2], float scale) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    sum[half] += shuffle_xor(sum[half], 1);
    sum[half] += shuffle_xor(sum[half], 2);
    const int row = first + (int)(threadIdx.x % WARP) / 4 + 8 * half;
    if (plan.mask.data && maximum[half] == hidden_score) sum[half] = INFINITY;
    if (threadIdx.x % 4 == 0 && row < plan.queries) {
      plan.log_sums[place.both * plan.queries + row] = fmaf(maximum[half], scale, log2f(sum[half]));
    }
  }
  uint32_t largest[2] = {};
  store_rows<Scalar, FEATURES>(rows_of(plan.y, place.batch, place.head, plan.queries), first, result, 1.0f / sum[0],
                               1.0f / sum[1], largest);
  const uint32_t upper = plan.causal ? broken_lanes(result, 0) : 0, lower = plan.causal ? broken_lanes(result, 1) : 0;
  finish_rows<Scalar>(plan, largest, upper, lower, first, plan.queries,
                      [&](int query) { attend_again<Scalar, FEATURES>(plan, place, query); });
}

/* dq */
template <typename Scalar, int FEATURES>
__device__ inline void finish_query_grads(const AttentionPlan &plan, const HeadTile &place, int first,
                                          const float (&query_grad)[FEATURES / 8][4]) {
  uint32_t largest[2] = {};
  store_rows<Scalar, FEATURES>(rows_of(plan.dq, place.batch, place.head, plan.queries), first, query_grad, plan.scale,
                               plan.scale, largest);
  const uint32_t upper = plan.causal ? broken_lanes(query_grad, 0) : 0;
  const uint32_t lower = plan.causal ? broken_lanes(query_grad, 1) : 0;
  finish_rows<Scalar>(plan, largest, upper, lower, first, plan.queries,
                      [&](int query) { find_query_grad_again<Scalar, FEATURES>(plan, place, query); });
}

/* dk and dv */
template <typename Scalar, int FEATURES>
__device__ inline void finish_key_grads(const AttentionPlan &plan, const HeadTile &place, int first,
                                        const float (&key_grad)[FEATURES / 8][4],
                                        const float (&value_grad)[FEATURES / 8][4]) {
  uint32_t largest[2] = {};
  store_rows<Scalar, FEATURES>(rows_of(plan.dk, place.batch, place.head, plan.keys), first, key_grad, plan.scale,
                               plan.scale, largest);
  store_rows<Scalar, FEATURES>(rows_of(plan.dv, place.batch, place.head, plan.keys), first, value_grad, 1, 1, largest);
  const uint32_t upper = plan.causal ? broken_lanes(key_grad, 0) | broken_lanes(value_grad, 0) : 0;
  const uint32_t lower = plan.causal ? broken_lanes(key_grad, 1) | broken_lanes(value_grad, 1) : 0;
  finish_rows<Scalar>(plan, largest, upper, lower, first, plan.keys,
                      [&](int key) { find_key_grads_again<Scalar, FEATURES>(plan, place, key); });
}

} // namespace

#endif
