/* The gradients of attention, with scores and probabilities computed again from q, k and log_sums:
 *
 *   p = 2^(score - log_sum)   dv = pᵀ·dy   dp = dy·vᵀ   ds = p · (dp - Σ y·dy)   dq = scale · ds·k   dk = scale · dsᵀ·q
 *
 * After Dao, "FlashAttention-2" (2023), but dq has a pass of its own: each result belongs to one thread block, which
 * adds it up in a fixed order, so that gradients are the same in every run. */
#include "attention/hopper_launch.h"
#include "attention/visible.cuh"

namespace {

/* --- deltas = Σ y·dy over the features of each query --- */

template <typename Scalar>
__global__ void __launch_bounds__(ATTENTION_BLOCK) delta_kernel(const __grid_constant__ AttentionPlan plan) {
  const int lanes = plan.features / 8;
  const int64_t row = ((int64_t)blockIdx.x * ATTENTION_BLOCK + threadIdx.x) / lanes;
  const int column = (int)threadIdx.x % lanes * 8;
  const bool inside = row < plan.batch * plan.heads * plan.queries;
  float sum = 0;
  if (inside) {
    const int64_t both = divide(row, plan.queries), batch = both / plan.heads, position = row - both * plan.queries;
    const HeadRows y = rows_of(plan.y, batch, both - batch * plan.heads, plan.queries);
    const HeadRows dy = rows_of(plan.dy, batch, both - batch * plan.heads, plan.queries);
    float a[8], b[8];
    unpack<Scalar>(*reinterpret_cast<const uint4 *>(y.data + position * y.stride + column), a);
    unpack<Scalar>(*reinterpret_cast<const uint4 *>(dy.data + position * dy.stride + column), b);
#pragma unroll
    for (int k = 0; k < 8; k++) sum = fmaf(a[k], b[k], sum);
  }
  for (int mask = lanes / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (inside && column == 0) plan.deltas[row] = sum;
}

/* --- dk and dv: a thread block takes 64 keys and goes through the queries that see them --- */

/* HeadRows of a tile of queries: fewer where a result of 128 features fills the registers. */
template <int FEATURES> constexpr int query_rows = FEATURES > 64 ? 32 : 64;

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(ATTENTION_BLOCK) keys_kernel(const __grid_constant__ AttentionPlan plan) {
  constexpr int rows = query_rows<FEATURES>;
  constexpr int key_elements = tile_elements<TILE, FEATURES>, query_elements = tile_elements<rows, FEATURES>;
  extern __shared__ __align__(16)
      uint16_t shared[]; /* keys, values, then queries and dy twice, log sums and deltas twice */
  uint16_t *key_tile = shared, *value_tile = shared + key_elements, *stages = shared + 2 * key_elements;
  float *numbers = reinterpret_cast<float *>(stages + 4 * query_elements);
  const HeadTile place = head_tile(plan, plan.keys, TILE, false);
  const HeadRows queries = rows_of(plan.q, place.batch, place.head, plan.queries);
  const HeadRows grads = rows_of(plan.dy, place.batch, place.head, plan.queries);
  const float *log_sums = plan.log_sums + place.both * plan.queries, *deltas = plan.deltas + place.both * plan.queries;
  const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * 16;
  const int shift = plan.keys - plan.queries; /* causal: a query sees keys up to its number + shift */
  const int begin = plan.causal ? max(place.first - shift, 0) / rows : 0, end = divide_up(plan.queries, rows);
  const auto load = [&](int tile) {
    uint16_t *stage = stages + tile % 2 * 2 * query_elements;
    float *number = numbers + tile % 2 * 2 * rows;
    load_tile<rows, FEATURES>(stage, queries, tile * rows);
    load_tile<rows, FEATURES>(stage + query_elements, grads, tile * rows);
    load_numbers<rows>(number, log_sums, tile * rows, plan.queries);
    load_numbers<rows>(number + rows, deltas, tile * rows, plan.queries);
  };
  load_tile<TILE, FEATURES>(key_tile, rows_of(plan.k, place.batch, place.key_head, plan.keys), place.first);
  load_tile<TILE, FEATURES>(value_tile, rows_of(plan.v, place.batch, place.key_head, plan.keys), place.first);
  if (begin < end) load(begin);
  commit_copies();
  float key_grad[FEATURES / 8][4] = {}, value_grad[FEATURES / 8][4] = {};
  for (int tile = begin; tile < end; tile++) {
    if (tile + 1 < end) load(tile + 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    const uint16_t *query_tile = stages + tile % 2 * 2 * query_elements, *grad_tile = query_tile + query_elements;
    const float *log_sum = numbers + tile % 2 * 2 * rows, *delta = log_sum + rows;
    float score[rows / 8][4] = {}, change[rows / 8][4] = {}; /* transposed: keys are rows */
    multiply_rows<Scalar, rows, FEATURES>(
        score, query_tile, [&](uint32_t(&a)[4], int step) { load_left<FEATURES>(a, key_tile, own, step); });
    multiply_rows<Scalar, rows, FEATURES>(
        change, grad_tile, [&](uint32_t(&a)[4], int step) { load_left<FEATURES>(a, value_tile, own, step); });
    const float scale = MASKED ? 1.0f : plan.scale_log2;
    if (MASKED) {
      for_each_bias<rows / 8, true>(plan, place, place.first + own, tile * rows, [&](int n, int k, float bias) {
        score[n][k] = fmaf(score[n][k], plan.scale_log2, bias);
      });
    }
#pragma unroll
    for (int n = 0; n < rows / 8; n++) {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int column = n * 8 + lane % 4 * 2 + k % 2, key = place.first + own + lane / 4 + k / 2 * 8;
        score[n][k] = power_of_two(fmaf(score[n][k], scale, -log_sum[column]));
        if (plan.causal && key > tile * rows + column + shift) score[n][k] = 0;
        change[n][k] = score[n][k] * (change[n][k] - delta[column]);
      }
    }
    multiply_columns<Scalar, rows, FEATURES>(value_grad, score, grad_tile);
    multiply_columns<Scalar, rows, FEATURES>(key_grad, change, query_tile);
    __syncthreads(); /* before this tile's place is filled again */
  }
  wait_for_copies<0>();
  finish_key_grads<Scalar, FEATURES>(plan, place, place.first + own, key_grad, value_grad);
}

/* --- dq: a thread block takes 64 queries and goes through the keys that they see --- */

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(ATTENTION_BLOCK) queries_kernel(const __grid_constant__ AttentionPlan plan) {
  constexpr int elements = tile_elements<TILE, FEATURES>;
  extern __shared__ __align__(16) uint16_t shared[]; /* queries, dy, then keys and values twice */
  const HeadTile place = head_tile(plan, plan.queries, TILE, true);
  const HeadRows keys = rows_of(plan.k, place.batch, place.key_head, plan.keys);
  const HeadRows values = rows_of(plan.v, place.batch, place.key_head, plan.keys);
  const int lane = threadIdx.x % WARP, own = threadIdx.x / WARP * 16, first_query = place.first + own;
  const int shift = plan.keys - plan.queries, tiles = visible_tiles(plan, place.first);
  const auto load = [&](int tile) {
    uint16_t *stage = shared + (2 + tile % 2 * 2) * elements;
    load_tile<TILE, FEATURES>(stage, keys, tile * TILE);
    load_tile<TILE, FEATURES>(stage + elements, values, tile * TILE);
  };
  load_tile<TILE, FEATURES>(shared, rows_of(plan.q, place.batch, place.head, plan.queries), place.first);
  load_tile<TILE, FEATURES>(shared + elements, rows_of(plan.dy, place.batch, place.head, plan.queries), place.first);
  load(0);
  commit_copies();
  float log_sum[2], delta[2], query_grad[FEATURES / 8][4] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int row = min(first_query + lane / 4 + 8 * half, plan.queries - 1);
    log_sum[half] = plan.log_sums[place.both * plan.queries + row];
    delta[half] = plan.deltas[place.both * plan.queries + row];
  }
  for (int tile = 0; tile < tiles; tile++) {
    if (tile + 1 < tiles) load(tile + 1);
    commit_copies();
    wait_for_copies<1>();
    __syncthreads();
    const uint16_t *key_tile = shared + (2 + tile % 2 * 2) * elements, *value_tile = key_tile + elements;
    float score[TILE / 8][4] = {}, change[TILE / 8][4] = {};
    multiply_rows<Scalar, TILE, FEATURES>(
        score, key_tile, [&](uint32_t(&a)[4], int step) { load_left<FEATURES>(a, shared, own, step); });
    multiply_rows<Scalar, TILE, FEATURES>(
        change, value_tile, [&](uint32_t(&a)[4], int step) { load_left<FEATURES>(a, shared + elements, own, step); });
    const float scale = MASKED ? 1.0f : plan.scale_log2;
    if (MASKED) {
      for_each_bias<TILE / 8, false>(plan, place, first_query, tile * TILE, [&](int n, int k, float bias) {
        score[n][k] = fmaf(score[n][k], plan.scale_log2, bias);
      });
    }
#pragma unroll
    for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int key = tile * TILE + n * 8 + lane % 4 * 2 + k % 2, query = first_query + lane / 4 + k / 2 * 8;
        float probability = power_of_two(fmaf(score[n][k], scale, -log_sum[k / 2]));
        if (key >= plan.keys || (plan.causal && key > query + shift)) probability = 0;
        change[n][k] = probability * (change[n][k] - delta[k / 2]);
      }
    }
    multiply_columns<Scalar, TILE, FEATURES>(query_grad, change, key_tile);
    __syncthreads(); /* before this tile's place is filled again */
  }
  finish_query_grads<Scalar, FEATURES>(plan, place, first_query, query_grad);
}

/* --- launching --- */

template <typename Scalar, int FEATURES> cudaError_t run(Launch launch, const AttentionPlan &plan) {
  constexpr int rows = query_rows<FEATURES>, element = sizeof(uint16_t);
  const int64_t threads = plan.batch * plan.heads * plan.queries * (FEATURES / 8);
  delta_kernel<Scalar><<<(unsigned)divide_up(threads, ATTENTION_BLOCK), ATTENTION_BLOCK, 0, launch.stream>>>(plan);
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  constexpr int key_bytes =
      (2 * tile_elements<TILE, FEATURES> + 4 * tile_elements<rows, FEATURES>)*element + 4 * rows * (int)sizeof(float);
  const bool masked = plan.mask.data;
  const auto of_keys = masked ? keys_kernel<Scalar, FEATURES, true> : keys_kernel<Scalar, FEATURES, false>;
  error = start(launch, of_keys, plan, plan.keys, key_bytes);
  if (error != cudaSuccess) return error;
  constexpr int query_bytes = 6 * tile_elements<TILE, FEATURES> * element;
  const auto of_queries = masked ? queries_kernel<Scalar, FEATURES, true> : queries_kernel<Scalar, FEATURES, false>;
  return start(launch, of_queries, plan, plan.queries, query_bytes);
}

} // namespace

extern "C" cudaError_t launch_attention_backward(Launch launch, const AttentionPlan *plan) {
  if (plan->hopper) {
    const cudaError_t error = launch_hopper_attention_backward(launch, *plan);
    if (error != cudaErrorNotSupported) return error;
  }
  return run_typed(*plan, [&](auto scalar, auto features) {
    return run<decltype(scalar), decltype(features)::value>(launch, *plan);
  });
}
