/* Attention in one pass over the keys: y = softmax(scale · q·kᵀ)·v of f16 and bf16, without the matrix of scores in
 * memory. After Dao, "FlashAttention-2" (2023), whose order of the loops and running maximum this follows.
 *
 * A thread block takes 64 queries of one head, a warp 16 of them, and goes through tiles of 64 keys and values, the
 * next one on its way into shared memory while one is worked on. Scores are kept as multiples of log2(e), so that
 * exponentials are powers of two. log_sums = log2 Σ 2^score of each query is left for the backward pass. */
#include "attention/hopper_launch.h"
#include "attention/visible.cuh"

namespace {

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(ATTENTION_BLOCK) attention_kernel(const __grid_constant__ AttentionPlan plan) {
  constexpr int elements = tile_elements<TILE, FEATURES>;
  extern __shared__ __align__(16) uint16_t shared[]; /* queries, then keys and values twice */
  const HeadTile place = head_tile(plan, plan.queries, TILE, true);
  const HeadRows queries = rows_of(plan.q, place.batch, place.head, plan.queries);
  const HeadRows keys = rows_of(plan.k, place.batch, place.key_head, plan.keys);
  const HeadRows values = rows_of(plan.v, place.batch, place.key_head, plan.keys);
  const int own = threadIdx.x / WARP * 16, first_query = place.first + own;
  const int tiles = visible_tiles(plan, place.first);
  load_tile<TILE, FEATURES>(shared, queries, place.first);
  load_tile<TILE, FEATURES>(shared + elements, keys, 0);
  load_tile<TILE, FEATURES>(shared + 2 * elements, values, 0);
  commit_copies();
  uint32_t query[FEATURES / 16][4];
  float result[FEATURES / 8][4] = {}, maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {}, factor[2];
  for (int tile = 0; tile < tiles; tile++) {
    uint16_t *key_tile = shared + (1 + tile % 2 * 2) * elements, *value_tile = key_tile + elements;
    if (tile + 1 < tiles) {
      uint16_t *next = shared + (1 + (tile + 1) % 2 * 2) * elements;
      load_tile<TILE, FEATURES>(next, keys, (tile + 1) * TILE);
      load_tile<TILE, FEATURES>(next + elements, values, (tile + 1) * TILE);
    }
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    if (tile == 0) {
#pragma unroll
      for (int step = 0; step < FEATURES / 16; step++) load_left<FEATURES>(query[step], shared, own, step);
    }
    float score[TILE / 8][4] = {};
    multiply_rows<Scalar, TILE, FEATURES>(score, key_tile, [&](uint32_t(&a)[4], int step) {
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = query[step][i];
    });
    if (MASKED) {
      add_mask(plan, place, score, first_query, tile * TILE);
    } else {
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
        for (int k = 0; k < 4; k++) score[n][k] *= plan.scale_log2;
      }
    }
    const int last_key = (tile + 1) * TILE - 1;
    if (last_key >= plan.keys || (plan.causal && last_key > first_query + plan.keys - plan.queries)) {
      hide(plan, score, first_query, tile * TILE);
    }
    exponentiate(score, maximum, sum, factor, 1);
    scale_rows(result, factor);
    multiply_columns<Scalar, TILE, FEATURES>(result, score, value_tile);
    __syncthreads(); /* before this tile's place is filled again */
  }
  finish_queries<Scalar, FEATURES>(plan, place, first_query, result, maximum, sum, 1);
}

template <typename Scalar, int FEATURES> cudaError_t run(Launch launch, const AttentionPlan &plan) {
  constexpr int bytes = 5 * tile_elements<TILE, FEATURES> * (int)sizeof(uint16_t);
  const auto kernel =
      plan.mask.data ? attention_kernel<Scalar, FEATURES, true> : attention_kernel<Scalar, FEATURES, false>;
  return start(launch, kernel, plan, plan.queries, bytes);
}

} // namespace

/* A mask whose rows differ is read where more thread blocks hide that: four fit on a multiprocessor here. */
extern "C" cudaError_t launch_attention(Launch launch, const AttentionPlan *plan) {
  const bool has_rows = plan->mask.data && plan->mask.query != 0;
  if (plan->hopper && !has_rows) {
    const cudaError_t error = launch_hopper_attention(launch, *plan);
    if (error != cudaErrorNotSupported) return error;
  }
  return run_typed(*plan, [&](auto scalar, auto features) {
    return run<decltype(scalar), decltype(features)::value>(launch, *plan);
  });
}
