/* Adding slices up by an index: the derivative of picking slices, so of an embedding. Deterministic, without atomics: a
 * thread block owns some slices of the output, looks through the whole index for them, and adds what it finds in the
 * order of the index to sums in shared memory, of which each thread has its own columns. */
#include "common.cuh"
#include "index/index.h"

namespace {

enum {
  BLOCK = 256,
  WARPS = BLOCK / WARP,
  SUMS = 8192,         /* of a thread block: 32 KiB */
  COLUMNS = 4 * BLOCK, /* of a thread block at most */
  EACH = 8,            /* entries of the index that a thread looks at, a thread block apart */
  AT_ONCE = 4          /* slices that are on their way from memory */
};

__global__ void __launch_bounds__(BLOCK) narrow_index_kernel(int32_t *out, const __grid_constant__ IndexPlan plan) {
  with_integer(plan.index_dtype, [&](auto element) {
    for (int64_t i = global_thread(); i < plan.picks; i += global_threads()) {
      const int64_t index = static_cast<const decltype(element) *>(plan.index)[i];
      const bool valid = index >= 0 && index < plan.length;
      if (!valid) report_fault(plan.fault, FAULT_INDEX_ADD, index);
      out[i] = valid ? (int32_t)index : -1;
    }
  });
}

/* An entry that a thread block found: which of its slices, and how far after the first entry looked at. */
struct Match {
  uint16_t slice, position;
};

struct Shared {
  float sum[SUMS];
  Match match[BLOCK * EACH];
  int found[EACH][WARPS];
};

/* Lists the entries from `first` on that fall in [low, high), in their order; returns how many there are. */
__device__ inline int find(Shared &shared, const int32_t *index, int64_t first, int64_t picks, int low, int high) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int entry[EACH];
  bool any = false;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int64_t position = first + k * BLOCK + threadIdx.x;
    entry[k] = position < picks ? index[position] : -1;
    any = any || (entry[k] >= low && entry[k] < high);
  }
  if (!__syncthreads_or(any)) return 0;
  unsigned matches[EACH];
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    matches[k] = __ballot_sync(all_lanes, entry[k] >= low && entry[k] < high);
    if (lane == 0) shared.found[k][warp] = __popc(matches[k]);
  }
  __syncthreads();
  int count = 0;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    for (int w = 0; w < WARPS; w++) {
      if (w == warp && (matches[k] >> lane & 1)) {
        const int place = count + __popc(matches[k] & ((1u << lane) - 1));
        shared.match[place] = {(uint16_t)(entry[k] - low), (uint16_t)(k * BLOCK + threadIdx.x)};
      }
      count += shared.found[k][w];
    }
  }
  __syncthreads();
  return count;
}

/* A thread block takes `slices` slices of the output, and `columns` of their elements. */
__global__ void __launch_bounds__(BLOCK)
    index_add_kernel(const __grid_constant__ IndexAddPlan plan, int slices, int columns) {
  __shared__ Shared shared;
  const int64_t length = plan.index.length, picks = plan.index.picks, inner = plan.index.inner;
  const int64_t ranges = divide_up(length, slices), strips = divide_up(inner, columns);
  const int64_t range = blockIdx.x % ranges, strip = blockIdx.x / ranges % strips, outer = blockIdx.x / ranges / strips;
  const int low = (int)(range * slices), high = (int)(low + slices < length ? low + slices : length);
  const int64_t column = strip * columns;
  const int width = (int)(inner - column < columns ? inner - column : columns);
  const int64_t x_begin = outer * picks * inner + column, out_begin = (outer * length + low) * inner + column;
  for (int r = 0; r < high - low; r++) {
    for (int i = threadIdx.x; i < width; i += BLOCK) {
      shared.sum[r * columns + i] = plan.adds ? load_float(plan.out, plan.out_dtype, out_begin + r * inner + i) : 0.0f;
    }
  }
  for (int64_t first = 0; first < picks; first += BLOCK * EACH) {
    const int count = find(shared, plan.narrow_index, first, picks, low, high);
    for (int begin = 0; begin < count; begin += AT_ONCE) {
      for (int i = threadIdx.x; i < width; i += BLOCK) {
        float value[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (begin + k >= count) break;
          value[k] = load_float(plan.x, plan.dtype, x_begin + (first + shared.match[begin + k].position) * inner + i);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
          if (begin + k >= count) break;
          shared.sum[shared.match[begin + k].slice * columns + i] += value[k];
        }
      }
    }
  }
  for (int r = 0; r < high - low; r++) {
    for (int i = threadIdx.x; i < width; i += BLOCK) {
      store_float(plan.out, plan.out_dtype, out_begin + r * inner + i, shared.sum[r * columns + i]);
    }
  }
}

} // namespace

extern "C" cudaError_t launch_narrow_index(Launch launch, const IndexAddPlan *plan) {
  const int grid = grid_size(launch, plan->index.picks, BLOCK, 8);
  narrow_index_kernel<<<grid, BLOCK, 0, launch.stream>>>(plan->narrow_index, plan->index);
  return cudaGetLastError();
}

extern "C" cudaError_t launch_index_add(Launch launch, const IndexAddPlan *plan) {
  const IndexPlan &index = plan->index;
  const int columns = (int)(index.inner < COLUMNS ? index.inner : (int64_t)COLUMNS);
  const int64_t strips = divide_up(index.inner, columns);
  /* As many slices as fit, since the index is read once for each thread block, but the device should be busy. */
  const int64_t fit = SUMS / columns, busy = index.length * strips * index.outer / (2 * launch.multiprocessors);
  const int64_t slices = busy < 1 ? 1 : busy < fit ? busy : fit;
  const int64_t grid = divide_up(index.length, slices) * strips * index.outer;
  if (grid > INT32_MAX) return cudaErrorInvalidConfiguration;
  index_add_kernel<<<(unsigned)grid, BLOCK, 0, launch.stream>>>(*plan, (int)slices, columns);
  return cudaGetLastError();
}
