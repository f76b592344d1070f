/* Column sums of a matrix in a single launch, from Hopper on. The order of sums never depends on timing: a thread adds up to
 * LONGEST_CHAIN rows in float32 and a thread block a few of these; what is left is added in double. */
#include "cluster.cuh"
#include "following.cuh"
#include "measure/rows.cuh"
#include "measure/strips.h"

namespace {

enum { CLUSTER = 8 };

/* A cluster of eight thread blocks has a strip of LANES vectors to itself, and a thread one of them in every so many-th row. Of
 * the sums that are left each thread block adds up those of an eighth of the columns, which the others send it. */
template <typename Scalar, int LANES>
__global__ void __launch_bounds__(BLOCK, 4)
    sum_strips_kernel(const uint4 *x, int64_t rows, int across, void *out, DType dtype) {
#if __CUDA_ARCH__ >= 900
  constexpr int width = vector_width<Scalar>, columns = LANES * width, block_rows = BLOCK / LANES;
  constexpr int parts = BLOCK / columns, terms = CLUSTER * parts, own_columns = columns / CLUSTER;
  static_assert(terms <= WARP && own_columns * terms == BLOCK, "a warp adds up whole columns");
  __shared__ __align__(16) float sums[block_rows][columns];
  __shared__ uint32_t sent[own_columns][terms];
  __shared__ uint64_t arrived;
  if (threadIdx.x == 0) {
    init_messages(&arrived);
    expect_messages(&arrived, (int)sizeof sent);
  }
  __syncthreads();
  arrive_in_cluster();
  const int rank = blockIdx.x % CLUSTER, lane = threadIdx.x % LANES, strip = blockIdx.x / CLUSTER;
  const int vector = strip * LANES + lane;
  const int64_t step = CLUSTER * block_rows;
  float sum[width] = {};
  int64_t row = rank * block_rows + threadIdx.x / LANES;
  const uint4 *from = x + row * across + vector;
  while (vector < across && row < rows) {
    uint4 raw[ROWS_IN_FLIGHT];
    load_rows(raw, from, row, step, rows, across);
    row += ROWS_IN_FLIGHT * step;
    from += ROWS_IN_FLIGHT * step * across;
    add_rows<Scalar>(sum, raw);
  }
#pragma unroll
  for (int k = 0; k < width; k += 4) {
    *reinterpret_cast<float4 *>(&sums[threadIdx.x / LANES][lane * width + k]) =
        make_float4(sum[k], sum[k + 1], sum[k + 2], sum[k + 3]);
  }
  __syncthreads();
  const int part = threadIdx.x / columns, column = threadIdx.x % columns;
  float total = 0;
#pragma unroll
  for (int i = 0; i < block_rows / parts; i++) total += sums[i * parts + part][column];
  wait_in_cluster(); /* until all have begun */
  send_message(&sent[column % own_columns][rank * parts + part], &arrived, column / own_columns, float_to_bits(total));
  wait_for_messages(&arrived, 0);
  const int own = threadIdx.x / terms, term = threadIdx.x % terms;
  double result = float_from_bits(sent[own][term]);
#pragma unroll
  for (int mask = terms / 2; mask > 0; mask /= 2) result += shuffle_xor(result, mask);
  const int64_t at = (int64_t)strip * columns + rank * own_columns + own;
  if (term == 0 && at < (int64_t)across * width) store_double(out, dtype, at, result);
#endif
}

/* Whether strips of so many vectors are a thread block for nearly every multiprocessor, and their rows few enough. */
bool allows_strips(Launch launch, const MeasurePlan &plan, int lanes) {
  const int blocks = divide_up(vector_columns(plan), lanes) * CLUSTER;
  return 10 * blocks >= 9 * launch.multiprocessors && plan.rows <= (int64_t)CLUSTER * (BLOCK / lanes) * LONGEST_CHAIN;
}

template <typename Scalar, int LANES>
cudaError_t run_strips(Launch launch, const MeasurePlan &plan, void *out, DType dtype) {
  if (!has_hopper_code<sum_strips_kernel<Scalar, LANES>>()) return cudaErrorNotSupported;
  const int across = vector_columns(plan);
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = CLUSTER;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3((unsigned)(divide_up(across, LANES) * CLUSTER));
  config.blockDim = dim3(BLOCK);
  config.stream = launch.stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, sum_strips_kernel<Scalar, LANES>, static_cast<const uint4 *>(plan.x), plan.rows,
                            across, out, dtype);
}

template <typename Scalar> cudaError_t run_widest(Launch launch, const MeasurePlan &plan, void *out, DType dtype) {
  if (allows_strips(launch, plan, 32)) return run_strips<Scalar, 32>(launch, plan, out, dtype);
  if (allows_strips(launch, plan, 16)) return run_strips<Scalar, 16>(launch, plan, out, dtype);
  return cudaErrorNotSupported;
}

} // namespace

extern "C" cudaError_t launch_sum_strips(Launch launch, const MeasurePlan *plan, void *out, DType dtype) {
  return with_scalar(plan->dtype, [&](auto scalar) { return run_widest<decltype(scalar)>(launch, *plan, out, dtype); });
}
