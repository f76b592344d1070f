/* Rotary position embedding. A thread takes one pair of features at one position, whose cosine and sine it computes
 * once, through all rows that have this position, or a share of them. */
#include "attention/rotate.h"
#include "common.cuh"

namespace {

enum { BLOCK = 256 };

template <typename Scalar>
__global__ void __launch_bounds__(BLOCK) rotate_kernel(const __grid_constant__ RotatePlan plan) {
  const int64_t pair = global_thread();
  if (pair >= plan.positions * plan.pairs) return;
  const int64_t position = pair / plan.pairs, i = pair - position * plan.pairs;
  const double angle = (double)(plan.rotation.offset + position) *
                       pow(plan.rotation.base, -2.0 * (double)i / (2.0 * (double)plan.pairs));
  const float cosine = (float)cos(angle), sine = (float)(plan.rotation.backwards ? -sin(angle) : sin(angle));
  const int64_t first = plan.rotation.interleaved ? 2 * i : i, step = plan.rotation.interleaved ? 1 : plan.pairs;
  const Scalar *x = static_cast<const Scalar *>(plan.x);
  Scalar *out = static_cast<Scalar *>(plan.out);
  for (int64_t row = blockIdx.y; row < plan.outer * plan.inner; row += gridDim.y) {
    const int64_t outer = row / plan.inner, inner = row - outer * plan.inner;
    const int64_t at = ((outer * plan.positions + position) * plan.inner + inner) * 2 * plan.pairs + first;
    const float a = to_float(x[at]), b = to_float(x[at + step]);
    from_float(a * cosine - b * sine, false, out[at]);
    from_float(b * cosine + a * sine, false, out[at + step]);
  }
}

} // namespace

extern "C" cudaError_t launch_rotate(Launch launch, const RotatePlan *plan) {
  enum { BLOCKS_A_MULTIPROCESSOR = 32, ROWS_MOST = 65535 };
  const int64_t rows = plan->outer * plan->inner, blocks = divide_up(plan->positions * plan->pairs, (int64_t)BLOCK);
  int64_t shares = divide_up((int64_t)launch.multiprocessors * BLOCKS_A_MULTIPROCESSOR, blocks);
  if (shares > rows) shares = rows;
  if (shares > ROWS_MOST) shares = ROWS_MOST;
  with_scalar(plan->dtype, [&](auto scalar) {
    rotate_kernel<decltype(scalar)><<<dim3((unsigned)blocks, (unsigned)shares), BLOCK, 0, launch.stream>>>(*plan);
  });
  return cudaGetLastError();
}
