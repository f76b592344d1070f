/* How many flags are not 0, and their coordinates, by CUB's reduction and stream compaction. */
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_select.cuh>
#include <cuda/std/functional>
#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/discard_iterator.h>
#include <thrust/iterator/tabulate_output_iterator.h>

#include "common.cuh"
#include "order/select.h"

namespace {

struct IsNotZero {
  __device__ int64_t operator()(uint8_t flag) const { return flag != 0; }
};

/* Writes the coordinates of a position as a row of the output. */
struct WriteCoordinates {
  NonzeroPlan plan;

  __device__ void operator()(int64_t row, int64_t position) const {
    int64_t *out = plan.out + row * plan.rank;
    for (int d = plan.rank - 1; d > 0; d--) {
      const int64_t rest = divide(position, plan.size[d]);
      out[d] = position - rest * plan.size[d];
      position = rest;
    }
    out[0] = position;
  }
};

} // namespace

extern "C" cudaError_t launch_nonzero(Launch launch, const NonzeroPlan *plan, void *scratch, size_t *bytes) {
  if (plan->total) {
    return cub::DeviceReduce::TransformReduce(scratch, *bytes, plan->flags, plan->total, plan->count,
                                              cuda::std::plus<int64_t>(), IsNotZero(), (int64_t)0, launch.stream);
  }
  const auto positions = thrust::make_counting_iterator<int64_t>(0);
  const auto rows = thrust::make_tabulate_output_iterator(WriteCoordinates{*plan});
  return cub::DeviceSelect::Flagged(scratch, *bytes, positions, plan->flags, rows, thrust::make_discard_iterator(),
                                    plan->count, launch.stream);
}
