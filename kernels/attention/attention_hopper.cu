/* Attention on Hopper's tensor cores, of 64 or 128 features: what attention.cu computes, with tiles of keys and values
 * brought by bulk copies and multiplied by whole warpgroups in the background.
 *
 * While a warpgroup makes weights of one tile's scores, its tensor cores compute the results of the tile before. After
 * Shah et al., "FlashAttention-3" (2024). */
#include "attention/hopper.cuh"

namespace {

template <int FEATURES> struct Sizes;
template <> struct Sizes<64> : Division<1, 64, 3, 3> {};
template <> struct Sizes<128> : Division<2, 128, 2, 1> {};

template <int FEATURES> constexpr int stage_elements = 2 * swizzled_elements<Sizes<FEATURES>::columns, FEATURES>;

struct Maps {
  CUtensorMap k, v;
};

template <int FEATURES> struct Rings { Ring<Sizes<FEATURES>::stages> keys, values; };

/* By one thread. */
template <int FEATURES>
__device__ inline void fetch(const Maps &maps, uint16_t *shared, Rings<FEATURES> &rings, const HeadTile &place,
                             int tiles) {
  constexpr int stages = Sizes<FEATURES>::stages, columns = Sizes<FEATURES>::columns;
  constexpr int bytes = swizzled_bytes<columns, FEATURES>;
  for (int tile = 0; tile < tiles; tile++) {
    const int stage = tile % stages;
    uint16_t *keys = shared + stage * stage_elements<FEATURES>, *values = keys + stage_elements<FEATURES> / 2;
    rings.keys.wait_empty(tile);
    arrive_expecting(&rings.keys.full[stage], bytes);
    copy_tile<columns, FEATURES>(keys, &maps.k, &rings.keys.full[stage], tile * columns, place.key_head, place.batch);
    rings.values.wait_empty(tile);
    arrive_expecting(&rings.values.full[stage], bytes);
    copy_tile<columns, FEATURES>(values, &maps.v, &rings.values.full[stage], tile * columns, place.key_head,
                                 place.batch);
  }
}

/* The warp's 16 queries. */
template <typename Scalar, int FEATURES, bool MASKED>
__device__ inline void attend(const AttentionPlan &plan, const uint16_t *shared, Rings<FEATURES> &rings,
                              const HeadTile &place, int first_query, int tiles) {
  constexpr int stages = Sizes<FEATURES>::stages, columns = Sizes<FEATURES>::columns;
  const float scale = MASKED ? 1.0f : plan.scale_log2;
  uint32_t query[FEATURES / 16][4], weight[columns / 16][4];
  float score[columns / 8][4], result[FEATURES / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {}, factor[2];
  load_left_rows<Scalar, FEATURES>(query, rows_of(plan.q, place.batch, place.head, plan.queries), first_query);
  const auto begin_scores = [&](int tile) {
    rings.keys.wait_full(tile);
    fence_operands();
    begin_rows<Scalar, columns, FEATURES>(score, query, shared + tile % stages * stage_elements<FEATURES>);
    commit_products();
  };
  const auto begin_results = [&](int tile) {
    rings.values.wait_full(tile);
    fence_operands();
    const uint16_t *values = shared + tile % stages * stage_elements<FEATURES> + stage_elements<FEATURES> / 2;
    begin_columns<Scalar, columns, FEATURES>(result, weight, values);
    commit_products();
  };
  /* The scores, of which the product is done. */
  const auto weigh = [&](int tile) {
    settle(score);
    rings.keys.release(tile);
    if (MASKED) add_mask(plan, place, score, first_query, tile * columns);
    const int last_key = (tile + 1) * columns - 1;
    if (last_key >= plan.keys || (plan.causal && last_key > first_query + plan.keys - plan.queries)) {
      hide(plan, score, first_query, tile * columns);
    }
    exponentiate(score, maximum, sum, factor, scale);
  };
  begin_scores(0);
  wait_for_products<0>();
  weigh(0);
  pack_left<Scalar>(weight, score);
  for (int tile = 1; tile < tiles; tile++) {
    begin_scores(tile);
    begin_results(tile - 1);
    wait_for_products<1>();
    weigh(tile);
    wait_for_products<0>();
    settle(result);
    rings.values.release(tile - 1);
    scale_rows(result, factor);
    pack_left<Scalar>(weight, score);
  }
  begin_results(tiles - 1);
  wait_for_products<0>();
  settle(result);
  finish_queries<Scalar, FEATURES>(plan, place, first_query, result, maximum, sum, scale);
}

template <typename Scalar, int FEATURES, bool MASKED>
__global__ void __launch_bounds__(Sizes<FEATURES>::threads, Sizes<FEATURES>::blocks)
    hopper_attention_kernel(const __grid_constant__ AttentionPlan plan, const __grid_constant__ Maps maps) {
#ifdef FP8_HOPPER
  using Size = Sizes<FEATURES>;
  extern __shared__ __align__(SWIZZLE_BYTES) uint16_t shared[]; /* keys and values of each stage */
  __shared__ Rings<FEATURES> rings;
  const HeadTile place = head_tile(plan, plan.queries, Size::rows, true);
  const int visible = plan.causal ? min(plan.keys, place.first + Size::rows + plan.keys - plan.queries) : plan.keys;
  const int tiles = divide_up(visible, Size::columns);
  if (threadIdx.x == 0) {
    rings.keys.init(Size::groups * WARPGROUP / WARP);
    rings.values.init(Size::groups * WARPGROUP / WARP);
    publish_barriers();
  }
  __syncthreads();
  const int group = threadIdx.x / WARPGROUP;
  if (group == Size::groups) {
    give_registers<FETCHING_REGISTERS>();
    if (threadIdx.x % WARPGROUP == 0) fetch<FEATURES>(maps, shared, rings, place, tiles);
  } else {
    take_registers<Size::registers>();
    attend<Scalar, FEATURES, MASKED>(plan, shared, rings, place, place.first + threadIdx.x / WARP * 16, tiles);
  }
#endif
}

template <typename Scalar, int FEATURES> cudaError_t run(Launch launch, const AttentionPlan &plan) {
  using Size = Sizes<FEATURES>;
  constexpr int bytes = Size::stages * stage_elements<FEATURES> * (int)sizeof(uint16_t);
  Maps maps;
  if (!make_map(&maps.k, plan, plan.k, plan.keys, Size::columns, plan.group) ||
      !make_map(&maps.v, plan, plan.v, plan.keys, Size::columns, plan.group)) {
    return cudaErrorNotSupported;
  }
  const auto kernel = plan.mask.data ? hopper_attention_kernel<Scalar, FEATURES, true>
                                     : hopper_attention_kernel<Scalar, FEATURES, false>;
  return start_hopper<Size>(launch, kernel, plan, maps, plan.queries, bytes);
}

} // namespace

cudaError_t launch_hopper_attention(Launch launch, const AttentionPlan &plan) {
  return run_wide(
      plan, [&](auto scalar, auto features) { return run<decltype(scalar), decltype(features)::value>(launch, plan); });
}

/* The driver may have taken code that it made from another kind's PTX, in which the kernels are empty. */
extern "C" bool has_hopper_attention(void) {
  static const bool has = [] {
    cudaFuncAttributes found;
    const cudaError_t error = cudaFuncGetAttributes(&found, hopper_attention_kernel<BFloat16, 64, false>);
    if (error != cudaSuccess) cudaGetLastError(); /* or the next launch would report it again */
    return error == cudaSuccess && found.binaryVersion == 90 && found.ptxVersion == 90;
  }();
  return has;
}
