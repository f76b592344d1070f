/* Picking slices along a dimension (index_select) and single elements (gather), by an integer index from 0. */
#include "index/place.cuh"

namespace {

constexpr int64_t most_turns = 32;

/* By slice: the index has one entry a pick; by element: one for every element. A thread block takes BLOCK · turns
 * neighbouring elements, so that what it reads of a row of x is in its cache for the next. */
template <typename Word, bool BY_SLICE>
__global__ void __launch_bounds__(BLOCK)
    pick_kernel(Word *__restrict__ out, const Word *__restrict__ x, const __grid_constant__ IndexPlan plan, int turns) {
  const int64_t count = plan.outer * plan.picks * plan.inner, first = (int64_t)blockIdx.x * turns * BLOCK;
  const int64_t end = first + turns * BLOCK < count ? first + turns * BLOCK : count;
  with_integer(plan.index_dtype, [&](auto index) {
#pragma unroll 4
    for (int64_t i = first + threadIdx.x; i < end; i += BLOCK) {
      const ElementPlace place = place_of(plan, i);
      const int64_t from = counterpart<decltype(index)>(plan, place, BY_SLICE ? place.pick : i,
                                                        BY_SLICE ? FAULT_INDEX_SELECT : FAULT_GATHER);
      out[i] = from >= 0 ? x[from] : Word{};
    }
  });
}

template <typename Word, bool BY_SLICE>
cudaError_t pick(Launch launch, void *out, const void *x, const IndexPlan *plan) {
  const int64_t blocks = divide_up(plan->outer * plan->picks * plan->inner, BLOCK);
  int64_t turns = blocks / (launch.multiprocessors * 8);
  turns = turns < 1 ? 1 : turns > most_turns ? most_turns : turns;
  while (divide_up(blocks, turns) > INT32_MAX) turns *= 2;
  pick_kernel<Word, BY_SLICE><<<(unsigned)divide_up(blocks, turns), BLOCK, 0, launch.stream>>>(
      static_cast<Word *>(out), static_cast<const Word *>(x), *plan, (int)turns);
  return cudaGetLastError();
}

template <bool BY_SLICE>
cudaError_t pick_words(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan) {
  if (is_empty(*plan)) return cudaSuccess;
  return with_word(word_bytes, [&](auto word) { return pick<decltype(word), BY_SLICE>(launch, out, x, plan); });
}

} // namespace

extern "C" cudaError_t launch_index_select(Launch launch, void *out, const void *x, int word_bytes,
                                           const IndexPlan *plan) {
  return pick_words<true>(launch, out, x, word_bytes, plan);
}

extern "C" cudaError_t launch_gather(Launch launch, void *out, const void *x, int word_bytes, const IndexPlan *plan) {
  return pick_words<false>(launch, out, x, word_bytes, plan);
}
