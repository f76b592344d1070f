/* The first few in order of rows of any length, a thread block a row or part of one: a limit that no wanted key exceeds;
 * then those up to it, in the order of their positions; then these are sorted. A limit is the key that, of the threads'
 * own first keys, is the last wanted one: it is found digit by digit from the highest, by how many share it so far. Where
 * too many keys do not exceed that, the limit is found the same way among all keys. */
#include <cub/block/block_scan.cuh>

#include "order/sort.cuh"

namespace {

enum {
  THREADS = 512,
  ITEMS = SORT_TOP_MOST / THREADS,
  DIGITS = 1 << SORT_DIGIT,
  EACH = 8, /* neighbouring elements that a thread picks from */
  TILE = THREADS * EACH,
  FEW = 128 /* that are sorted by comparing each with all */
};
static_assert(THREADS >= DIGITS && TILE <= UINT16_MAX);

using Scan = cub::BlockScan<uint32_t, THREADS>;

template <typename Key> struct TopShared {
  union {
    typename Scan::TempStorage scan;
    typename ThreadBlockSort<Key, int32_t, THREADS, ITEMS>::Shared sort;
    uint32_t count[DIGITS];
  };
  Key key[SORT_TOP_MOST];
  int32_t position[SORT_TOP_MOST];
  Key limit;
  uint32_t before, among; /* keys before those that agree with `limit`; those */
};

/* Part of a row. */
struct Run {
  int64_t row, begin, length;
};

__device__ inline Run run_of(const SortPlan &plan, int64_t number) {
  const int64_t row = number / plan.parts, part = number - row * plan.parts;
  const int64_t length = plan.columns / plan.parts / EACH * EACH; /* the last one is longer */
  return {row, part * length, part == plan.parts - 1 ? plan.columns - part * length : length};
}

/* The keys of `count` neighbours from element `first` of a run on. */
template <typename Key>
__device__ inline void load_neighbours(const SortPlan &plan, Run run, int64_t first, int count, Key (&key)[EACH]) {
  const Key flip = key_flip<Key>(plan);
  with_element_of<Key>(plan.dtype, [&](auto element) {
    using T = decltype(element);
    const T *x = static_cast<const T *>(plan.x) + run.row * plan.columns + run.begin;
    Packed<T, EACH> value;
    if (count == EACH && (uintptr_t)x % 16 == 0) {
      value = *reinterpret_cast<const Packed<T, EACH> *>(x + first);
    } else {
#pragma unroll
      for (int k = 0; k < EACH; k++) {
        if (k < count) value.element[k] = x[first + k];
      }
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) key[k] = (Key)sort_key(value.element[k]) ^ flip;
  });
}

__device__ inline int count_from(Run run, int64_t first) {
  return (int)(run.length - first < EACH ? run.length - first < 0 ? 0 : run.length - first : EACH);
}

/* f(key) of each of this thread's keys. */
template <typename Key, typename F> __device__ inline void for_each_key(const SortPlan &plan, Run run, F f) {
  for (int64_t first = threadIdx.x * EACH; first < run.length; first += TILE) {
    const int count = count_from(run, first);
    Key key[EACH];
    load_neighbours(plan, run, first, count, key);
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      if (k < count) f(key[k]);
    }
  }
}

/* Digits of the key that number `kept` of some keys has, as many as are needed to tell what is kept: returns how many
 * bits below them are left open. shared.before keys come before all that agree with shared.limit in the others.
 * visit(f) is f(key) of each of this thread's keys. */
template <typename Key, typename Visit>
__device__ int find_limit(TopShared<Key> &shared, const SortPlan &plan, Visit visit) {
  Key limit = 0;
  uint32_t before = 0;
  int shift = sort_key_bits(plan.dtype);
  bool open = true;
  while (shift > 0 && open) {
    const int known = shift;
    shift -= SORT_DIGIT;
    if (threadIdx.x < DIGITS) shared.count[threadIdx.x] = 0;
    __syncthreads();
    visit([&](Key key) {
      const bool agrees = known >= 8 * (int)sizeof(Key) || ((key ^ limit) >> known) == 0;
      if (agrees) atomicAdd(&shared.count[SortDigit{shift}.Digit(key)], 1u);
    });
    __syncthreads();
    const uint32_t count = threadIdx.x < DIGITS ? shared.count[threadIdx.x] : 0;
    __syncthreads(); /* before the scan writes to the same place */
    uint32_t earlier;
    Scan(shared.scan).ExclusiveSum(count, earlier);
    earlier += before;
    if (earlier < plan.kept && plan.kept <= earlier + count) {
      shared.limit = limit | (Key)((Key)threadIdx.x << shift);
      shared.before = earlier;
      shared.among = count;
    }
    __syncthreads();
    limit = shared.limit;
    before = shared.before;
    open = before + shared.among != plan.kept;
    __syncthreads();
  }
  return shift;
}

/* Brings the run's keys below the limit, and the first `wanted` that agree with it but for the open bits, to shared.key
 * and shared.position in the order of their positions, as long as there is room. Returns how many there are. */
template <typename Key>
__device__ uint32_t collect(TopShared<Key> &shared, const SortPlan &plan, Run run, int open, uint32_t wanted) {
  const Key limit = shared.limit >> open;
  uint32_t before = 0, equal = 0;
  for (int64_t tile = 0; tile < run.length; tile += TILE) {
    const int64_t first = tile + threadIdx.x * EACH;
    const int count = count_from(run, first);
    Key key[EACH];
    load_neighbours(plan, run, first, count, key);
    uint32_t found = 0; /* how many come before the limit, and agree with it in the upper half */
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      const Key upper = key[k] >> open;
      if (k < count) found += upper < limit ? 1 : upper == limit ? 1 << 16 : 0;
    }
    if (!__syncthreads_or(found)) continue;
    uint32_t earlier, total;
    Scan(shared.scan).ExclusiveSum(found, earlier, total);
    uint32_t smaller = before + (earlier & 0xFFFF), same = equal + (earlier >> 16);
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      if (k >= count) break;
      const Key upper = key[k] >> open;
      const bool agrees = upper == limit, taken = upper < limit || (agrees && same < wanted);
      const uint32_t place = smaller + (same < wanted ? same : wanted);
      if (taken && place < SORT_TOP_MOST) {
        shared.key[place] = key[k];
        shared.position[place] = (int32_t)(first + k);
      }
      smaller += upper < limit;
      same += agrees;
    }
    before += total & 0xFFFF;
    equal += total >> 16;
    __syncthreads(); /* before the next scan */
  }
  __syncthreads();
  return before + (equal < wanted ? equal : wanted);
}

/* Those that a limit among the threads' first keys lets by, or 0 where this is no way. */
template <typename Key> __device__ uint32_t collect_by_firsts(TopShared<Key> &shared, const SortPlan &plan, Run run) {
  if (plan.kept > THREADS / 2 || plan.kept > run.length / EACH) return 0;
  Key least = (Key)-1;
  for_each_key<Key>(plan, run, [&](Key key) { least = key < least ? key : least; });
  const int open = find_limit(shared, plan, [&](auto f) {
    if (threadIdx.x * EACH < run.length) f(least);
  });
  const uint32_t found = collect(shared, plan, run, open, UINT32_MAX);
  return found <= SORT_TOP_MOST ? found : 0;
}

template <typename Key>
__device__ __noinline__ uint32_t collect_by_all(TopShared<Key> &shared, const SortPlan &plan, Run run) {
  const int open = find_limit(shared, plan, [&](auto f) { for_each_key<Key>(plan, run, f); });
  return collect(shared, plan, run, open, (uint32_t)plan.kept - shared.before);
}

/* Writes the first of those that were found in order. */
template <typename Key>
__device__ __noinline__ void sort_found(TopShared<Key> &shared, const SortPlan &plan, Run run, uint32_t found) {
  using Sort = ThreadBlockSort<Key, int32_t, THREADS, ITEMS>;
  Key key[ITEMS];
  int32_t position[ITEMS];
#pragma unroll
  for (int k = 0; k < ITEMS; k++) {
    const uint32_t i = Sort::place(k);
    key[k] = i < found ? shared.key[i] : (Key)-1;
    position[k] = i < found ? shared.position[i] : INT32_MAX;
  }
  Sort::sort(shared.sort, key, position, sort_key_bits(plan.dtype));
  for (int i = threadIdx.x; i < plan.kept; i += THREADS) {
    store_sorted(plan, blockIdx.x * plan.kept + i, shared.sort.key[i], run.row, run.begin + shared.sort.position[i]);
  }
}

/* The same of up to FEW, whose order is found by comparing each with all. */
template <typename Key>
__device__ void sort_few(const TopShared<Key> &shared, const SortPlan &plan, Run run, uint32_t found) {
  if (threadIdx.x >= found) return;
  const Key own = shared.key[threadIdx.x];
  uint32_t earlier = 0;
  for (uint32_t i = 0; i < found; i++) {
    const Key other = shared.key[i];
    earlier += other < own || (other == own && i < threadIdx.x);
  }
  if (earlier < plan.kept) {
    store_sorted(plan, blockIdx.x * plan.kept + earlier, own, run.row, run.begin + shared.position[threadIdx.x]);
  }
}

template <typename Key>
__global__ void __launch_bounds__(THREADS, 3) sort_top_kernel(const __grid_constant__ SortPlan plan) {
  extern __shared__ __align__(16) unsigned char memory[];
  TopShared<Key> &shared = *reinterpret_cast<TopShared<Key> *>(memory);
  const Run run = run_of(plan, blockIdx.x);
  uint32_t found = collect_by_firsts(shared, plan, run);
  if (found == 0) found = collect_by_all(shared, plan, run);
  if (found <= FEW) {
    sort_few(shared, plan, run, found);
  } else {
    sort_found(shared, plan, run, found);
  }
}

} // namespace

extern "C" cudaError_t launch_sort_top(Launch launch, const SortPlan *plan) {
  const int64_t grid = plan->rows * plan->parts;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  return with_row_key(plan->dtype, [&](auto key) {
    using Key = decltype(key);
    const auto kernel = &sort_top_kernel<Key>;
    constexpr int bytes = sizeof(TopShared<Key>);
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return error;
    kernel<<<(unsigned)grid, THREADS, bytes, launch.stream>>>(*plan);
    return cudaGetLastError();
  });
}
