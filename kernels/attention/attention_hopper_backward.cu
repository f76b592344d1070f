/* The gradients of attention on Hopper's tensor cores, of 64 or 128 features: what attention_backward.cu computes. Each
 * gradient belongs to one warpgroup here too, so that it is the same in every run. */
#include "attention/hopper.cuh"

namespace {

struct Maps {
  CUtensorMap q, k, v, dy;
};

/* --- dq, and deltas = Σ y·dy for the other kernel: a thread block takes queries and goes through the keys they see --- */

template <int FEATURES> struct QuerySizes;
template <> struct QuerySizes<64> : Division<1, 64, 3, 2> {};
template <> struct QuerySizes<128> : Division<1, 64, 2, 2> {};

template <int FEATURES> struct KeyStage {
  static constexpr int columns = QuerySizes<FEATURES>::columns;
  uint16_t k[swizzled_elements<columns, FEATURES>], v[swizzled_elements<columns, FEATURES>];
};

template <int FEATURES> struct QueryShared {
  KeyStage<FEATURES> stage[QuerySizes<FEATURES>::stages];
  Ring<QuerySizes<FEATURES>::stages> ring;
};

/* By one thread. */
template <int FEATURES>
__device__ inline void fetch_keys(const Maps &maps, QueryShared<FEATURES> &shared, const HeadTile &place, int tiles) {
  using Size = QuerySizes<FEATURES>;
  for (int tile = 0; tile < tiles; tile++) {
    const int stage = tile % Size::stages, first = tile * Size::columns;
    shared.ring.wait_empty(tile);
    arrive_expecting(&shared.ring.full[stage], 2 * swizzled_bytes<Size::columns, FEATURES>);
    copy_tile<Size::columns, FEATURES>(shared.stage[stage].k, &maps.k, &shared.ring.full[stage], first, place.key_head,
                                       place.batch);
    copy_tile<Size::columns, FEATURES>(shared.stage[stage].v, &maps.v, &shared.ring.full[stage], first, place.key_head,
                                       place.batch);
  }
}

template <typename Scalar, int FEATURES, bool MASKED>
__device__ inline void find_query_grads(const AttentionPlan &plan, QueryShared<FEATURES> &shared, const HeadTile &place,
                                        int first_query, int tiles) {
  using Size = QuerySizes<FEATURES>;
  constexpr int columns = Size::columns;
  const int lane = threadIdx.x % WARP, shift = plan.keys - plan.queries;
  const float scale = MASKED ? 1.0f : plan.scale_log2;
  uint32_t q[FEATURES / 16][4], dy[FEATURES / 16][4], left[columns / 16][4];
  float weight[columns / 8][4], change[columns / 8][4], query_grad[FEATURES / 8][4] = {}, log_sum[2], delta[2] = {};
  load_left_rows<Scalar, FEATURES>(q, rows_of(plan.y, place.batch, place.head, plan.queries), first_query);
  load_left_rows<Scalar, FEATURES>(dy, rows_of(plan.dy, place.batch, place.head, plan.queries), first_query);
#pragma unroll
  for (int step = 0; step < FEATURES / 16; step++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float y[2], other[2];
      unpack_word(q[step][i], Scalar(), y[0], y[1]);
      unpack_word(dy[step][i], Scalar(), other[0], other[1]);
      delta[i % 2] = fmaf(y[0], other[0], fmaf(y[1], other[1], delta[i % 2]));
    }
  }
  load_left_rows<Scalar, FEATURES>(q, rows_of(plan.q, place.batch, place.head, plan.queries), first_query);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    delta[half] += shuffle_xor(delta[half], 1);
    delta[half] += shuffle_xor(delta[half], 2);
    const int row = first_query + lane / 4 + 8 * half;
    const int64_t number = place.both * plan.queries + row;
    log_sum[half] = row < plan.queries ? plan.log_sums[number] : INFINITY;
    if (lane % 4 == 0 && row < plan.queries) plan.deltas[number] = delta[half];
  }
  const auto begin_weights = [&](int tile) {
    shared.ring.wait_full(tile);
    fence_operands();
    begin_rows<Scalar, columns, FEATURES>(weight, q, shared.stage[tile % Size::stages].k);
    commit_products();
  };
  const auto begin_gradients = [&](int tile) {
    const KeyStage<FEATURES> &stage = shared.stage[tile % Size::stages];
    wait_for_products<0>();
    settle(weight);
    settle(query_grad);
    if (tile > 0) shared.ring.release(tile - 1);
    fence_operands();
    begin_rows<Scalar, columns, FEATURES>(change, dy, stage.v);
    commit_products();
    if (MASKED) {
      for_each_bias<columns / 8, false>(plan, place, first_query, tile * columns, [&](int n, int i, float bias) {
        weight[n][i] = fmaf(weight[n][i], plan.scale_log2, bias);
      });
    }
    const int last_key = (tile + 1) * columns - 1;
    if (last_key >= plan.keys || (plan.causal && last_key > first_query + shift)) {
      hide(plan, weight, first_query, tile * columns);
    }
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) weight[n][i] = power_of_two(fmaf(weight[n][i], scale, -log_sum[i / 2]));
    }
    wait_for_products<0>();
    settle(change);
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) change[n][i] = weight[n][i] * (change[n][i] - delta[i / 2]);
    }
    pack_left<Scalar>(left, change);
    fence_operands();
    begin_columns<Scalar, columns, FEATURES>(query_grad, left, stage.k);
    commit_products();
  };
  for (int tile = 0; tile < tiles; tile++) {
    begin_weights(tile);
    begin_gradients(tile);
  }
  wait_for_products<0>();
  settle(query_grad);
  finish_query_grads<Scalar, FEATURES>(plan, place, first_query, query_grad);
}

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(QuerySizes<FEATURES>::threads, QuerySizes<FEATURES>::blocks)
    hopper_queries_kernel(const __grid_constant__ AttentionPlan plan, const __grid_constant__ Maps maps) {
#ifdef FP8_HOPPER
  using Size = QuerySizes<FEATURES>;
  extern __shared__ __align__(SWIZZLE_BYTES) char bytes[];
  QueryShared<FEATURES> &shared = *reinterpret_cast<QueryShared<FEATURES> *>(bytes);
  const HeadTile place = head_tile(plan, plan.queries, Size::rows, true);
  const int visible = plan.causal ? min(plan.keys, place.first + Size::rows + plan.keys - plan.queries) : plan.keys;
  const int tiles = divide_up(visible, Size::columns);
  if (threadIdx.x == 0) {
    shared.ring.init(Size::groups * WARPGROUP / WARP);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x >= Size::groups * WARPGROUP) {
    give_registers<FETCHING_REGISTERS>();
    if (threadIdx.x == Size::groups * WARPGROUP) fetch_keys<FEATURES>(maps, shared, place, tiles);
  } else {
    take_registers<Size::registers>();
    find_query_grads<Scalar, FEATURES, MASKED>(plan, shared, place, place.first + threadIdx.x / WARP * 16, tiles);
  }
#endif
}

/* --- dk and dv: a thread block takes keys and goes through the queries that see them --- */

/* in_registers: where the warps have their rows of k and v, the left operands of two products; else in shared memory. */
template <int FEATURES> struct KeySizes;
template <> struct KeySizes<64> : Division<1, 64, 4, 2> { static constexpr bool in_registers = true; };
template <> struct KeySizes<128> : Division<2, 64, 3, 1> { static constexpr bool in_registers = false; };

template <int FEATURES> struct QueryStage {
  static constexpr int columns = KeySizes<FEATURES>::columns;
  uint16_t q[swizzled_elements<columns, FEATURES>], dy[swizzled_elements<columns, FEATURES>];
};

template <int FEATURES> struct KeyShared {
  using Size = KeySizes<FEATURES>;
  static constexpr int own_elements = Size::in_registers ? 0 : swizzled_elements<Size::rows, FEATURES>;
  QueryStage<FEATURES> stage[Size::stages];
  uint16_t own[2 * own_elements + 8]; /* k, then v */
  float log_sums[Size::stages][Size::columns], deltas[Size::stages][Size::columns];
  Ring<Size::stages> ring;
  uint64_t own_rows; /* k and v have come */
};

/* By one warp. */
template <int FEATURES>
__device__ inline void fetch_queries(const AttentionPlan &plan, const Maps &maps, KeyShared<FEATURES> &shared,
                                     const HeadTile &place, int begin, int end) {
  using Size = KeySizes<FEATURES>;
  constexpr int bytes = 2 * swizzled_bytes<Size::columns, FEATURES>;
  const int lane = threadIdx.x % WARP;
  const float *log_sums = plan.log_sums + place.both * plan.queries, *deltas = plan.deltas + place.both * plan.queries;
  if (!Size::in_registers && lane == 0) {
    arrive_expecting(&shared.own_rows, 2 * swizzled_bytes<Size::rows, FEATURES>);
    copy_tile<Size::rows, FEATURES>(shared.own, &maps.k, &shared.own_rows, place.first, place.key_head, place.batch);
    copy_tile<Size::rows, FEATURES>(shared.own + shared.own_elements, &maps.v, &shared.own_rows, place.first,
                                    place.key_head, place.batch);
  }
  for (int tile = begin; tile < end; tile++) {
    const int turn = tile - begin, stage = turn % Size::stages, first = tile * Size::columns;
    shared.ring.wait_empty(turn);
    for (int i = lane; i < Size::columns; i += WARP) {
      const bool inside = first + i < plan.queries;
      shared.log_sums[stage][i] = inside ? log_sums[first + i] : INFINITY; /* of weight 0 */
      shared.deltas[stage][i] = inside ? deltas[first + i] : 0;
    }
    __syncwarp();
    if (lane == 0) {
      arrive_expecting(&shared.ring.full[stage], bytes);
      copy_tile<Size::columns, FEATURES>(shared.stage[stage].q, &maps.q, &shared.ring.full[stage], first, place.head,
                                         place.batch);
      copy_tile<Size::columns, FEATURES>(shared.stage[stage].dy, &maps.dy, &shared.ring.full[stage], first, place.head,
                                         place.batch);
    }
    __syncwarp();
  }
}

template <int FEATURES>
using OwnRows = std::conditional_t<KeySizes<FEATURES>::in_registers, uint32_t[FEATURES / 16][4],
                                   SharedRows<KeySizes<FEATURES>::rows>>;

template <typename Scalar, int FEATURES>
__device__ inline void load_own(uint32_t (&left)[FEATURES / 16][4], const HeadRows &rows, int first, const uint16_t *) {
  load_left_rows<Scalar, FEATURES>(left, rows, first);
}
template <typename Scalar, int FEATURES, int ROWS>
__device__ inline void load_own(SharedRows<ROWS> &left, const HeadRows &, int, const uint16_t *tile) {
  left.first = tile + threadIdx.x / WARPGROUP * 64 * SWIZZLED_ROW;
}

template <typename Scalar, int FEATURES, bool MASKED>
__device__ inline void find_key_grads(const AttentionPlan &plan, KeyShared<FEATURES> &shared, const HeadTile &place,
                                      int own, int begin, int end) {
  using Size = KeySizes<FEATURES>;
  constexpr int columns = Size::columns;
  const int lane = threadIdx.x % WARP, first_key = place.first + own, shift = plan.keys - plan.queries;
  const float scale = MASKED ? 1.0f : plan.scale_log2;
  float key_grad[FEATURES / 8][4] = {}, value_grad[FEATURES / 8][4] = {};
  float weight[columns / 8][4], change[columns / 8][4]; /* transposed: keys are rows */
  uint32_t left[columns / 16][4], change_left[columns / 16][4];
  OwnRows<FEATURES> k, v;
  load_own<Scalar, FEATURES>(k, rows_of(plan.k, place.batch, place.key_head, plan.keys), first_key, shared.own);
  load_own<Scalar, FEATURES>(v, rows_of(plan.v, place.batch, place.key_head, plan.keys), first_key,
                             shared.own + shared.own_elements);
  if (!Size::in_registers) wait_for_phase(&shared.own_rows, 0);
  settle(key_grad);
  settle(value_grad);
  const auto begin_weights = [&](int turn) {
    shared.ring.wait_full(turn);
    fence_operands();
    begin_rows<Scalar, columns, FEATURES>(weight, k, shared.stage[turn % Size::stages].q);
    commit_products();
  };
  const auto begin_gradients = [&](int tile) {
    const int turn = tile - begin, stage = turn % Size::stages;
    const QueryStage<FEATURES> &tiles = shared.stage[stage];
    wait_for_products<0>();
    settle(weight);
    settle(key_grad);
    settle(value_grad);
    if (turn > 0) shared.ring.release(turn - 1);
    fence_operands();
    begin_rows<Scalar, columns, FEATURES>(change, v, tiles.dy);
    commit_products();
    if (MASKED) {
      for_each_bias<columns / 8, true>(plan, place, first_key, tile * columns, [&](int n, int i, float bias) {
        weight[n][i] = fmaf(weight[n][i], plan.scale_log2, bias);
      });
    }
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
      const float2 log_sum = *reinterpret_cast<const float2 *>(&shared.log_sums[stage][n * 8 + lane % 4 * 2]);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        weight[n][i] = power_of_two(fmaf(weight[n][i], scale, i % 2 ? -log_sum.y : -log_sum.x));
      }
    }
    if (plan.causal && first_key + 15 > tile * columns + shift) {
#pragma unroll
      for (int n = 0; n < columns / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int query = tile * columns + n * 8 + lane % 4 * 2 + i % 2, key = first_key + lane / 4 + i / 2 * 8;
          if (key > query + shift) weight[n][i] = 0;
        }
      }
    }
    pack_left<Scalar>(left, weight);
    fence_operands();
    begin_columns<Scalar, columns, FEATURES>(value_grad, left, tiles.dy);
    commit_products();
    wait_for_products<1>();
    settle(change);
#pragma unroll
    for (int n = 0; n < columns / 8; n++) {
      const float2 delta = *reinterpret_cast<const float2 *>(&shared.deltas[stage][n * 8 + lane % 4 * 2]);
#pragma unroll
      for (int i = 0; i < 4; i++) change[n][i] = weight[n][i] * (change[n][i] - (i % 2 ? delta.y : delta.x));
    }
    pack_left<Scalar>(change_left, change);
    fence_operands();
    begin_columns<Scalar, columns, FEATURES>(key_grad, change_left, tiles.q);
    commit_products();
  };
  for (int tile = begin; tile < end; tile++) {
    begin_weights(tile - begin);
    begin_gradients(tile);
  }
  wait_for_products<0>();
  settle(key_grad);
  settle(value_grad);
  finish_key_grads<Scalar, FEATURES>(plan, place, first_key, key_grad, value_grad);
}

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(KeySizes<FEATURES>::threads, KeySizes<FEATURES>::blocks)
    hopper_keys_kernel(const __grid_constant__ AttentionPlan plan, const __grid_constant__ Maps maps) {
#ifdef FP8_HOPPER
  using Size = KeySizes<FEATURES>;
  extern __shared__ __align__(SWIZZLE_BYTES) char bytes[];
  KeyShared<FEATURES> &shared = *reinterpret_cast<KeyShared<FEATURES> *>(bytes);
  const HeadTile place = head_tile(plan, plan.keys, Size::rows, false);
  const int shift = plan.keys - plan.queries;
  const int begin = plan.causal ? max(place.first - shift, 0) / Size::columns : 0;
  const int end = divide_up(plan.queries, Size::columns);
  if (threadIdx.x == 0) {
    shared.ring.init(Size::groups * WARPGROUP / WARP);
    init_barrier(&shared.own_rows, 1);
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x >= Size::groups * WARPGROUP) {
    give_registers<FETCHING_REGISTERS>();
    if (threadIdx.x / WARP == Size::groups * 4) fetch_queries<FEATURES>(plan, maps, shared, place, begin, end);
  } else {
    take_registers<Size::registers>();
    find_key_grads<Scalar, FEATURES, MASKED>(plan, shared, place, threadIdx.x / WARP * 16, begin, end);
  }
#endif
}

/* --- launching --- */

template <typename Scalar, int FEATURES> cudaError_t run(Launch launch, const AttentionPlan &plan) {
  using KeySize = KeySizes<FEATURES>;
  using QuerySize = QuerySizes<FEATURES>;
  Maps keys = {}, queries = {};
  const bool mapped = make_map(&keys.q, plan, plan.q, plan.queries, KeySize::columns, 1) &&
                      make_map(&keys.dy, plan, plan.dy, plan.queries, KeySize::columns, 1) &&
                      make_map(&keys.k, plan, plan.k, plan.keys, KeySize::rows, plan.group) &&
                      make_map(&keys.v, plan, plan.v, plan.keys, KeySize::rows, plan.group) &&
                      make_map(&queries.k, plan, plan.k, plan.keys, QuerySize::columns, plan.group) &&
                      make_map(&queries.v, plan, plan.v, plan.keys, QuerySize::columns, plan.group);
  if (!mapped) return cudaErrorNotSupported;
  const bool masked = plan.mask.data;
  const auto of_queries =
      masked ? hopper_queries_kernel<Scalar, FEATURES, true> : hopper_queries_kernel<Scalar, FEATURES, false>;
  const cudaError_t error =
      start_hopper<QuerySize>(launch, of_queries, plan, queries, plan.queries, (int)sizeof(QueryShared<FEATURES>));
  if (error != cudaSuccess) return error;
  const auto of_keys =
      masked ? hopper_keys_kernel<Scalar, FEATURES, true> : hopper_keys_kernel<Scalar, FEATURES, false>;
  return start_hopper<KeySize>(launch, of_keys, plan, keys, plan.keys, (int)sizeof(KeyShared<FEATURES>));
}

} // namespace

cudaError_t launch_hopper_attention_backward(Launch launch, const AttentionPlan &plan) {
  return run_wide(
      plan, [&](auto scalar, auto features) { return run<decltype(scalar), decltype(features)::value>(launch, plan); });
}
