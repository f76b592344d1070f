/* Walking over the tiles of a list of tensors. */
#ifndef FP8_TENSOR_LIST_CUH
#define FP8_TENSOR_LIST_CUH

#include "common.cuh"
#include "optim/optim.h"

/* Elements begin … end - 1 of one tensor. */
struct ListTile {
  int tensor;
  int64_t begin, end;
};

__device__ inline const ListedTensor &listed(const ListedTensor &tensor) { return tensor; }
__device__ inline const ListedTensor &listed(const CodedTensor &tensor) { return tensor.listed; }

template <typename List> __device__ inline ListTile find_tile(const List &list, int number) {
  int low = 0, high = list.tensors - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (listed(list.tensor[middle]).first_tile <= number) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const int64_t begin = (int64_t)(number - listed(list.tensor[low]).first_tile) * LIST_TILE;
  const int64_t rest = listed(list.tensor[low]).count - begin;
  return {low, begin, begin + (rest < LIST_TILE ? rest : LIST_TILE)};
}

template <int WIDTH> struct Width { static constexpr int value = WIDTH; };

/* Calls body(Width<N>(), i) for the elements of a tile, i … i + N - 1 at a time: N is WIDTH in vectors, 1 in what is
 * left over. UNROLL is for bodies that only read: their loads come before their arithmetic then. */
template <int WIDTH, int UNROLL, typename Body>
__device__ inline void walk_tile(const ListTile &tile, bool vectors, Body body) {
  int64_t scalars = tile.begin;
  if (vectors) {
    scalars += (tile.end - tile.begin) / WIDTH * WIDTH;
#pragma unroll UNROLL
    for (int64_t i = tile.begin + WIDTH * threadIdx.x; i < scalars; i += WIDTH * LIST_BLOCK) body(Width<WIDTH>(), i);
  }
  for (int64_t i = scalars + threadIdx.x; i < tile.end; i += LIST_BLOCK) body(Width<1>(), i);
}

#endif
