/* Rows that a thread block holds: read once, sorted in its registers and shared memory, written once. */
#include "order/sort.cuh"

namespace {

template <typename Key, int THREADS, int ITEMS>
__global__ void __launch_bounds__(THREADS) sort_rows_kernel(const __grid_constant__ SortPlan plan) {
  using Sort = ThreadBlockSort<Key, uint16_t, THREADS, ITEMS>;
  extern __shared__ __align__(16) unsigned char memory[];
  typename Sort::Shared &shared = *reinterpret_cast<typename Sort::Shared *>(memory);
  const int64_t row = blockIdx.x;
  Key key[ITEMS];
  uint16_t position[ITEMS];
  load_keys<Key>(plan, row, Sort::place, key, (Key)-1); /* what is beyond comes behind all that are equal */
#pragma unroll
  for (int k = 0; k < ITEMS; k++) position[k] = (uint16_t)Sort::place(k);
  Sort::sort(shared, key, position, sort_key_bits(plan.dtype));
  for (int i = threadIdx.x; i < plan.kept; i += THREADS) {
    store_sorted(plan, row * plan.kept + i, shared.key[i], row, shared.position[i]);
  }
}

template <typename Key, int THREADS, int ITEMS> cudaError_t sort_rows(Launch launch, const SortPlan &plan) {
  constexpr int bytes = sizeof(typename ThreadBlockSort<Key, uint16_t, THREADS, ITEMS>::Shared);
  const auto kernel = &sort_rows_kernel<Key, THREADS, ITEMS>;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  kernel<<<(unsigned)plan.rows, THREADS, bytes, launch.stream>>>(plan);
  return cudaGetLastError();
}

} // namespace

extern "C" cudaError_t launch_sort_rows(Launch launch, const SortPlan *plan) {
  if (plan->rows > INT32_MAX) return cudaErrorInvalidConfiguration;
  return with_row_key(plan->dtype, [&](auto key) {
    using Key = decltype(key);
    if (plan->columns <= 128) return sort_rows<Key, 32, 4>(launch, *plan);
    if (plan->columns <= 512) return sort_rows<Key, 128, 4>(launch, *plan);
    if (plan->columns <= 2048) return sort_rows<Key, 256, 8>(launch, *plan);
    return sort_rows<Key, SORT_ROW_MOST / 16, 16>(launch, *plan);
  });
}
