/* Rows that no thread block holds: keys and positions, sorted by CUB, a few rows as one, by the row and the key, many by a
 * thread block each. */
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_segmented_radix_sort.cuh>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include "order/sort.cuh"

namespace {

enum { BLOCK = 256 };

struct RowStart {
  int64_t columns;
  __host__ __device__ int64_t operator()(int row) const { return row * columns; }
};

/* Parts of the scratch space: keys and positions, before and after a digit. */
template <typename Key> struct Buffers {
  Key *key[2];
  int32_t *position[2];
  void *temporary;
  size_t bytes; /* of `temporary` */
};

size_t part_bytes(const SortPlan &plan, size_t element) {
  return (size_t)divide_up(plan.rows * plan.columns * (int64_t)element, 256) * 256;
}

/* Leaves what is sorted in the second buffers, or in the first. */
template <typename Key>
cudaError_t sort_pairs(const SortPlan &plan, Buffers<Key> &buffers, bool *second, cudaStream_t stream) {
  const int bits = sort_key_bits(plan.dtype);
  const int64_t count = plan.rows * plan.columns;
  cub::DoubleBuffer<Key> key(buffers.key[0], buffers.key[1]);
  cub::DoubleBuffer<int32_t> position(buffers.position[0], buffers.position[1]);
  const auto starts = thrust::make_transform_iterator(thrust::make_counting_iterator(0), RowStart{plan.columns});
  const cudaError_t error =
      plan.row_bits >= 0
          ? cub::DeviceRadixSort::SortPairs(buffers.temporary, buffers.bytes, key, position, (uint32_t)count, 0,
                                            plan.row_bits + bits, stream)
          : cub::DeviceSegmentedRadixSort::SortPairs(buffers.temporary, buffers.bytes, key, position, count, plan.rows,
                                                     starts, starts + 1, 0, bits, stream);
  *second = key.selector == 1;
  return error;
}

template <typename Key>
__global__ void __launch_bounds__(BLOCK)
    keys_kernel(Key *key, int32_t *position, const __grid_constant__ SortPlan plan) {
  const int64_t count = plan.rows * plan.columns;
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    const int64_t row = divide(i, plan.columns), column = i - row * plan.columns;
    const Key own = with_element(
        plan.dtype, [&](auto element) { return (Key)sort_key(static_cast<const decltype(element) *>(plan.x)[i]); });
    const Key number = plan.row_bits > 0 ? (Key)row << sort_key_bits(plan.dtype) : 0;
    key[i] = number | (own ^ key_flip<Key>(plan));
    position[i] = (int32_t)column;
  }
}

template <typename Key>
__global__ void __launch_bounds__(BLOCK)
    results_kernel(const Key *key, const int32_t *position, const __grid_constant__ SortPlan plan) {
  const int64_t count = plan.rows * plan.kept;
  const Key own = (Key)-1 >> (8 * (int)sizeof(Key) - sort_key_bits(plan.dtype));
  for (int64_t i = global_thread(); i < count; i += global_threads()) {
    const int64_t row = divide(i, plan.kept), column = i - row * plan.kept, place = row * plan.columns + column;
    store_sorted(plan, i, (Key)(key[place] & own), row, position[place]);
  }
}

template <typename Key> cudaError_t sort_long(Launch launch, const SortPlan &plan, char *scratch, size_t bytes) {
  const size_t keys = part_bytes(plan, sizeof(Key)), positions = part_bytes(plan, sizeof(int32_t));
  const size_t used = 2 * (keys + positions);
  Buffers<Key> buffers = {{(Key *)scratch, (Key *)(scratch + keys)},
                          {(int32_t *)(scratch + 2 * keys), (int32_t *)(scratch + 2 * keys + positions)},
                          scratch + used,
                          bytes - used};
  const int64_t count = plan.rows * plan.columns;
  keys_kernel<<<grid_size(launch, count, BLOCK, 16), BLOCK, 0, launch.stream>>>(buffers.key[0], buffers.position[0],
                                                                                plan);
  cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  bool second = false;
  error = sort_pairs(plan, buffers, &second, launch.stream);
  if (error != cudaSuccess) return error;
  results_kernel<<<grid_size(launch, plan.rows * plan.kept, BLOCK, 16), BLOCK, 0, launch.stream>>>(
      buffers.key[second], buffers.position[second], plan);
  return cudaGetLastError();
}

template <typename F> auto with_wide_key(const SortPlan &plan, F f) {
  const int bits = sort_key_bits(plan.dtype) + (plan.row_bits > 0 ? plan.row_bits : 0);
  return bits <= 32 ? f(uint32_t()) : f(uint64_t());
}

} // namespace

extern "C" cudaError_t sort_long_bytes(const SortPlan *plan, size_t *bytes) {
  return with_wide_key(*plan, [&](auto key) {
    using Key = decltype(key);
    Buffers<Key> none = {};
    bool second;
    const cudaError_t error = sort_pairs(*plan, none, &second, nullptr);
    *bytes = 2 * (part_bytes(*plan, sizeof(Key)) + part_bytes(*plan, sizeof(int32_t))) + none.bytes;
    return error;
  });
}

extern "C" cudaError_t launch_sort_long(Launch launch, const SortPlan *plan, void *scratch, size_t bytes) {
  return with_wide_key(
      *plan, [&](auto key) { return sort_long<decltype(key)>(launch, *plan, static_cast<char *>(scratch), bytes); });
}
