/* Codes of a hardware format as they are and transposed, in one pass over what they are made from, for products that
 * contract over rows; with the column sums, if they are wanted.
 *
 * A thread block takes patches of 128 × 128. Each thread casts four runs of 16 elements, which go to `codes` and into
 * shared memory, from where they are written transposed (byte_patch.cuh). Sums of a patch's 128 rows are float32. */
#ifndef FP8_TRANSPOSED_CUH
#define FP8_TRANSPOSED_CUH

#include <type_traits>

#include "byte_patch.cuh"
#include "following.cuh"
#include "quantize/vector.cuh"

namespace {

using namespace byte_patch;

static_assert((int)SIDE == (int)TRANSPOSE_ROWS, "a row of partial sums is that of a patch");

/* Sixteen elements; zeros for at < 0. */
template <typename Scalar> __device__ inline void load_run(const void *data, int64_t at, uint4 (&raw)[sizeof(Scalar)]) {
  const uint4 *from = reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(data) + at);
#pragma unroll
  for (int v = 0; v < (int)sizeof(Scalar); v++) {
    raw[v] = make_uint4(0, 0, 0, 0);
    if (at >= 0) raw[v] = from[v];
  }
}

/* The 16 codes of a run in registers. */
template <typename Scalar, Encoding ENCODING>
__device__ inline uint4 codes_of_run(const QuantizePlan &plan, float scale, const uint4 (&raw)[sizeof(Scalar)]) {
  constexpr int width = vector_width<Scalar>;
  const VectorScaling scaling = vector_scaling<Scalar, ENCODING, false>(plan, scaling_of<ENCODING>(plan, scale), 0);
  NoStage stage;
  const Encoder<ENCODING> encoder(stage, nullptr);
  uint32_t word[sizeof(Scalar)][width / 4];
#pragma unroll
  for (int v = 0; v < (int)sizeof(Scalar); v++) {
    if (scaling.slow) {
      const uint4 copy = raw[v]; /* in memory, so that elements have addresses */
      quantize_vector_slowly<Scalar, ENCODING>(plan, scaling.general, reinterpret_cast<const Scalar *>(&copy), word[v],
                                               (Scalar *)nullptr);
    } else {
      quantize_vector<Scalar, ENCODING, false>(plan, encoder, scaling, raw[v], word[v], (Scalar *)nullptr);
    }
  }
  const uint32_t(&all)[4] = reinterpret_cast<const uint32_t(&)[4]>(word);
  return make_uint4(all[0], all[1], all[2], all[3]);
}

/* --- column sums --- */

/* A run of columns, and those of the warps of a thread block side by side. */
struct NoSums {};
struct PatchSums {
  float warp[BLOCK / WARP][SIDE];
};

template <typename Scalar> __device__ inline void add_run(const uint4 (&raw)[sizeof(Scalar)], float (&sum)[RUN]) {
  constexpr int width = vector_width<Scalar>;
#pragma unroll
  for (int v = 0; v < (int)sizeof(Scalar); v++) {
    float value[width];
    unpack<Scalar>(raw[v], value);
#pragma unroll
    for (int k = 0; k < width; k++) sum[v * width + k] += value[k];
  }
}

/* The sums of a warp's rows to shared memory: lanes RUNS apart have the same run. */
__device__ inline void share_sums(float (&sum)[RUN], PatchSums &sums) {
#pragma unroll
  for (int k = 0; k < RUN; k++) {
#pragma unroll
    for (int mask = RUNS; mask < WARP; mask *= 2) sum[k] += shuffle_xor(sum[k], mask);
  }
  const int lane = threadIdx.x % WARP;
  if (lane >= RUNS) return;
#pragma unroll
  for (int k = 0; k < RUN; k++) sums.warp[threadIdx.x / WARP][lane * RUN + k] = sum[k];
}

__device__ inline void write_sums(const TransposePlan &turn, int64_t patch_row, int64_t patch_column,
                                  const PatchSums &sums) {
  const int64_t column = patch_column * SIDE + threadIdx.x;
  if (threadIdx.x >= SIDE || column >= turn.columns) return;
  float total = 0;
#pragma unroll
  for (int i = 0; i < BLOCK / WARP; i++) total += sums.warp[i][threadIdx.x];
  turn.partials[patch_row * turn.columns + column] = total;
}

/* --- the scale --- */

/* Of a history, which gives none where it is all 0; then `maxima` counts. */
__device__ inline float scale_from_history(const TransposePlan &turn) {
  const uint32_t largest = largest_of_history<BLOCK>(turn.history, turn.history_length);
  const uint32_t own = largest == 0 ? whole_maximum(turn.maxima, turn.maxima_count) : 0;
  return scale_of_history(largest, own, &turn.quantize.rule);
}

__device__ inline float scale_of_plan(const TransposePlan &turn) {
  const QuantizePlan &plan = turn.quantize;
  if (turn.history) return scale_from_history(turn);
  return turn.maxima ? scale_of(plan, whole_maximum(turn.maxima, turn.maxima_count)) : plan.known_scale[0];
}

/* --- the kernel --- */

/* What is quantized: `of` makes it from 16 bytes of x and, where of_gradient, of grad, that begin at a column; `row` gives
 * what that takes of a row. */
struct NoRow {};
struct Itself {
  static constexpr bool of_gradient = false;
  __device__ NoRow row(int64_t) const { return {}; }
  template <typename Scalar> __device__ uint4 of(const NoRow &, int64_t, uint4 x, uint4) const { return x; }
};

template <typename Scalar, Encoding ENCODING, bool SUM, typename Source>
__global__ void __launch_bounds__(BLOCK, 3)
    quantize_transposed_kernel(const __grid_constant__ TransposePlan turn, const __grid_constant__ Source source) {
  constexpr int vectors = sizeof(Scalar); /* a run */
  constexpr int together = sizeof(Scalar) == 2 && !Source::of_gradient ? 4 : 2;
  __shared__ __align__(16) uint4 chunks[SIDE * RUNS];
  __shared__ std::conditional_t<SUM, PatchSums, NoSums> sums;
  const QuantizePlan &plan = turn.quantize;
  if (SUM) let_next_start();
  const float scale = scale_of_plan(turn);
  uint32_t largest = 0;
  if (plan.scale && blockIdx.x == 0 && threadIdx.x == 0) plan.scale[0] = scale;
  const int64_t patches_across = divide_up(turn.columns, SIDE), patches = divide_up(turn.rows, SIDE) * patches_across;
  const int run = threadIdx.x % RUNS, first_row = threadIdx.x / RUNS;
  /* After a pass over the whole tensor its end is still in the cache, so that comes first. */
  for (int64_t turned = blockIdx.x; turned < patches; turned += gridDim.x) {
    const int64_t patch = turn.maxima ? patches - 1 - turned : turned;
    const int64_t patch_row = divide(patch, patches_across), patch_column = patch - patch_row * patches_across;
    const int64_t column = patch_column * SIDE + run * RUN;
    float sum[RUN] = {};
#pragma unroll
    for (int pass = 0; pass < PASSES; pass += together) {
      uint4 raw[together][vectors], grad[together][vectors];
#pragma unroll
      for (int i = 0; i < together; i++) {
        const int64_t row = patch_row * SIDE + first_row + (pass + i) * ROWS_AT_ONCE;
        const int64_t at = row < turn.rows && column < turn.columns ? row * turn.columns + column : -1;
        load_run<Scalar>(plan.x, at, raw[i]);
        if (Source::of_gradient) load_run<Scalar>(turn.grad, at, grad[i]);
      }
#pragma unroll
      for (int i = 0; i < together; i++) {
        const int patch_first = first_row + (pass + i) * ROWS_AT_ONCE;
        const int64_t row = patch_row * SIDE + patch_first;
        if (row >= turn.rows || column >= turn.columns) continue;
        const auto of_row = source.row(row);
#pragma unroll
        for (int v = 0; v < vectors; v++) {
          raw[i][v] = source.template of<Scalar>(of_row, column + v * vector_width<Scalar>, raw[i][v], grad[i][v]);
          if (turn.found) largest = raise<Scalar>(largest, raw[i][v]);
        }
        if (SUM) add_run<Scalar>(raw[i], sum);
        const int64_t at = row * turn.columns + column;
        const uint4 codes = codes_of_run<Scalar, ENCODING>(plan, scale, raw[i]);
        if (plan.codes) store_vector(reinterpret_cast<uint4 *>(plan.codes + at), codes);
        chunks[chunk_at(patch_first, run)] = codes;
      }
    }
    if constexpr (SUM) share_sums(sum, sums);
    __syncthreads();
    if constexpr (SUM) write_sums(turn, patch_row, patch_column, sums);
    if (turn.transposed) {
      write_columns(chunks, patch_row * SIDE, patch_column * SIDE, turn.rows, turn.columns, turn.transposed, turn.rows);
    }
    __syncthreads(); /* before the next patch is written */
  }
  if (turn.found) write_maximum<BLOCK>(turn.found, magnitude_bits(largest, Scalar()));
}

template <typename Scalar, Encoding ENCODING, bool SUM, typename Source>
int transposed_grid(Launch launch, const TransposePlan &plan) {
  const void *kernel = (const void *)quantize_transposed_kernel<Scalar, ENCODING, SUM, Source>;
  return resident_grid(kernel, launch, BLOCK, divide_up(plan.rows, SIDE) * divide_up(plan.columns, SIDE));
}

template <typename Scalar, Encoding ENCODING, bool SUM, typename Source>
cudaError_t run_transposed(Launch launch, const TransposePlan &plan, const Source &source) {
  const int grid = transposed_grid<Scalar, ENCODING, SUM, Source>(launch, plan);
  quantize_transposed_kernel<Scalar, ENCODING, SUM, Source><<<grid, BLOCK, 0, launch.stream>>>(plan, source);
  return cudaGetLastError();
}

} // namespace

#endif
