/* What the sorting kernels share: elements as keys and back, and a thread block that sorts keys with their positions. */
#ifndef FP8_KERNELS_ORDER_SORT_CUH
#define FP8_KERNELS_ORDER_SORT_CUH

#include <cub/block/block_radix_rank.cuh>
#include <type_traits>

#include "common.cuh"
#include "core/order/sort_key.h"
#include "order/sort.h"

/* --- keys --- */

__device__ inline uint32_t sort_key(float x) { return sort_key_of_f32(float_to_bits(x)); }
__device__ inline uint32_t sort_key(Half x) { return sort_key_of_f16(x.bits); }
__device__ inline uint32_t sort_key(BFloat16 x) { return sort_key_of_bf16(x.bits); }
__device__ inline uint32_t sort_key(E4M3 x) { return sort_key_of_e4m3(x.bits); }
__device__ inline uint32_t sort_key(E5M2 x) { return sort_key_of_e5m2(x.bits); }
__device__ inline uint32_t sort_key(uint8_t x) { return x; }
__device__ inline uint32_t sort_key(int32_t x) { return sort_key_of_i32(x); }
__device__ inline uint64_t sort_key(int64_t x) { return sort_key_of_i64(x); }

__device__ inline void from_bits(uint32_t bits, float &out) { out = float_from_bits(bits); }
template <typename T> __device__ inline void from_bits(uint32_t bits, T &out) { out.bits = (decltype(out.bits))bits; }

/* The element that a key stands for; false where several do. */
__device__ inline bool from_sort_key(uint64_t key, uint8_t &out) {
  out = (uint8_t)key;
  return true;
}
__device__ inline bool from_sort_key(uint64_t key, int32_t &out) {
  out = (int32_t)((uint32_t)key ^ 0x80000000u);
  return true;
}
__device__ inline bool from_sort_key(uint64_t key, int64_t &out) {
  out = (int64_t)(key ^ 0x8000000000000000u);
  return true;
}
template <typename T> __device__ inline bool from_sort_key(uint64_t key, T &out) {
  from_bits(float_of_sort_key((uint32_t)key, 8 * sizeof(T)), out);
  return sort_key_tells_float((uint32_t)key, 8 * sizeof(T));
}

/* What the keys of elements are sorted as in rows that a thread block has. */
template <typename T>
using RowKey = std::conditional_t<sizeof(T) <= 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;

/* f of a value of that type. */
template <typename F> inline auto with_row_key(DType dtype, F f) {
  return with_element(dtype, [&](auto element) { return f(RowKey<decltype(element)>()); });
}

/* f of a value of the type that the elements have, if their keys are such. */
template <typename Key, typename F> __device__ inline void with_element_of(DType dtype, F f) {
  with_element(dtype, [&](auto element) {
    if constexpr (std::is_same_v<RowKey<decltype(element)>, Key>) f(element);
  });
}

/* What keys are exchanged with (^) where the order is descending. */
template <typename Key> __device__ inline Key key_flip(const SortPlan &plan) {
  return plan.descending ? (Key)((Key)-1 >> (8 * (int)sizeof(Key) - sort_key_bits(plan.dtype))) : (Key)0;
}

/* Keys of N elements of a row, in the order that is wanted: of those at place(0) … place(N - 1), or `beyond` its end. */
template <typename Key, int N, typename Place>
__device__ inline void load_keys(const SortPlan &plan, int64_t row, Place place, Key (&key)[N], Key beyond) {
  const Key flip = key_flip<Key>(plan);
  with_element_of<Key>(plan.dtype, [&](auto element) {
    using T = decltype(element);
    const T *x = static_cast<const T *>(plan.x) + row * plan.columns;
    T value[N];
#pragma unroll
    for (int k = 0; k < N; k++) {
      if (place(k) < plan.columns) value[k] = x[place(k)];
    }
#pragma unroll
    for (int k = 0; k < N; k++) key[k] = place(k) < plan.columns ? (Key)((Key)sort_key(value[k]) ^ flip) : beyond;
  });
}

/* Writes element `to` of the result: the one at a position of a row. */
template <typename Key>
__device__ inline void store_sorted(const SortPlan &plan, int64_t to, Key key, int64_t row, int64_t position) {
  const int64_t place = row * plan.columns + position;
  plan.positions[to] = plan.names ? plan.names[place] : position;
  if (!plan.values) return;
  with_element(plan.dtype, [&](auto element) {
    using T = decltype(element);
    T value;
    if (!from_sort_key(key ^ key_flip<Key>(plan), value)) {
      value = static_cast<const T *>(plan.x)[place];
    }
    static_cast<T *>(plan.values)[to] = value;
  });
}

/* --- a thread block that sorts --- */

enum { SORT_DIGIT = 8 };

struct SortDigit {
  int shift;
  template <typename Key> __device__ uint32_t Digit(Key key) const {
    return (uint32_t)(key >> shift) & ((1 << SORT_DIGIT) - 1);
  }
};

/* THREADS · ITEMS keys and their positions, digit by digit from the lowest: ranks by CUB, then an exchange through shared
 * memory. Neighbouring threads of a warp have neighbouring items. */
template <typename Key, typename Position, int THREADS, int ITEMS> struct ThreadBlockSort {
  using Rank = cub::BlockRadixRankMatchEarlyCounts<THREADS, SORT_DIGIT, false, cub::BLOCK_SCAN_WARP_SCANS,
                                                   cub::WARP_MATCH_ATOMIC_OR>;
  static constexpr int COUNT = THREADS * ITEMS;
  struct Shared {
    union {
      typename Rank::TempStorage rank;
      Key key[COUNT];
    };
    Position position[COUNT];
  };

  /* Where this thread's item k lies. */
  __device__ static int place(int k) { return (threadIdx.x / WARP * ITEMS + k) * WARP + threadIdx.x % WARP; }

  /* Leaves the sorted items in `shared`, for all threads to read. */
  __device__ static void sort(Shared &shared, Key (&key)[ITEMS], Position (&position)[ITEMS], int bits) {
    for (int shift = 0; shift < bits; shift += SORT_DIGIT) {
      int rank[ITEMS];
      Rank(shared.rank).RankKeys(key, rank, SortDigit{shift});
      __syncthreads();
#pragma unroll
      for (int k = 0; k < ITEMS; k++) {
        shared.key[rank[k]] = key[k];
        shared.position[rank[k]] = position[k];
      }
      __syncthreads();
      if (shift + SORT_DIGIT >= bits) break;
#pragma unroll
      for (int k = 0; k < ITEMS; k++) {
        key[k] = shared.key[place(k)];
        position[k] = shared.position[place(k)];
      }
      __syncthreads();
    }
  }
};

#endif
