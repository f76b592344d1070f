/* Quantization with one scale for the whole tensor in a single launch: of a matrix whose elements all fit in the
 * registers of the thread blocks that the device holds at once. Each thread block reads a patch of 64 × 64, the grid
 * waits until the largest magnitude of every patch is known, and each thread block writes its patch: codes, transposed
 * codes, decoded values. Column sums come along: a patch's before the wait, their sum after it.
 *
 * Small tensors are bound by what a launch costs, not by bytes: this is one instead of two to four. */
#include <cooperative_groups.h>

#include "quantize/vector.cuh"

namespace {

enum { BLOCK = 256, SIDE = WHOLE_PATCH_ROWS, WORDS = SIDE / 4, PITCH = WORDS + 1 };
enum { RESIDENT = 2 }; /* thread blocks that every multiprocessor has room for */

template <typename Scalar> constexpr int across = SIDE / vector_width<Scalar>; /* vectors in a row of a patch */
template <typename Scalar> constexpr int rows_at_once = BLOCK / across<Scalar>;
template <typename Scalar> constexpr int passes = SIDE / rows_at_once<Scalar>;

/* A thread keeps to one vector of columns and takes every rows_at_once-th row. */
struct PatchPlace {
  int64_t patch_row, patch_column; /* of the patch's first element */
  int row, vector;                 /* of the thread's first vector, in the patch */
};

template <typename Scalar> __device__ inline PatchPlace place_of(const WholePlan &whole) {
  const int64_t patches_across = divide_up(whole.columns, SIDE);
  const int64_t patch_row = divide(blockIdx.x, patches_across);
  return {patch_row * SIDE, (blockIdx.x - patch_row * patches_across) * SIDE, (int)threadIdx.x / across<Scalar>,
          (int)threadIdx.x % across<Scalar>};
}

/* The sums over the patch's rows, as a row of partials for every row of patches. */
template <typename Scalar>
__device__ inline void sum_patch(const WholePlan &whole, const PatchPlace &place, const uint4 (&raw)[passes<Scalar>],
                                 float *shared) {
  constexpr int width = vector_width<Scalar>;
  float sum[width] = {};
#pragma unroll
  for (int i = 0; i < passes<Scalar>; i++) {
    float value[width];
    unpack<Scalar>(raw[i], value);
#pragma unroll
    for (int k = 0; k < width; k++) sum[k] += value[k];
  }
#pragma unroll
  for (int k = 0; k < width; k++) shared[place.row * (SIDE + 1) + place.vector * width + k] = sum[k];
  __syncthreads();
  const int64_t column = place.patch_column + threadIdx.x;
  if (threadIdx.x >= SIDE || column >= whole.columns) return;
  float total = 0;
#pragma unroll 8
  for (int row = 0; row < rows_at_once<Scalar>; row++) total += shared[row * (SIDE + 1) + threadIdx.x];
  whole.partials[place.patch_row / SIDE * whole.columns + column] = total;
}

/* By the first row of patches: one thread a column. */
__device__ inline void finish_sums(const WholePlan &whole, const PatchPlace &place) {
  const int64_t column = place.patch_column + threadIdx.x;
  if (place.patch_row > 0 || threadIdx.x >= SIDE || column >= whole.columns) return;
  const int64_t terms = divide_up(whole.rows, SIDE);
  double sum = 0;
#pragma unroll 8
  for (int64_t i = 0; i < terms; i++) sum += __ldcg(whole.partials + i * whole.columns + column);
  store_float(whole.sum, whole.sum_dtype, column, (float)sum);
}

/* The largest magnitude of the grid. */
__device__ inline uint32_t largest_of_grid(const WholePlan &whole) {
  uint32_t largest = 0;
  for (int i = threadIdx.x; i < (int)gridDim.x; i += BLOCK) largest = max(largest, __ldcg(whole.maxima + i));
  return combine_across<BLOCK>(largest, [](uint32_t a, uint32_t b) { return max(a, b); });
}

/* The patch's codes, four rows of one word, as four columns of one word. */
__device__ inline void write_transposed(const WholePlan &whole, const PatchPlace &place, const uint32_t *patch) {
  const int row = threadIdx.x % WORDS * 4, word_column = threadIdx.x / WORDS;
  const int64_t out_row = place.patch_row + row, out_column = place.patch_column + word_column * 4;
  if (out_row >= whole.rows || out_column >= whole.columns) return;
  uint32_t word[4];
#pragma unroll
  for (int i = 0; i < 4; i++) word[i] = patch[(row + i) * PITCH + word_column];
  transpose_bytes(word);
#pragma unroll
  for (int c = 0; c < 4; c++) {
    *reinterpret_cast<uint32_t *>(whole.transposed + (out_column + c) * whole.rows + out_row) = word[c];
  }
}

template <typename Scalar, Encoding ENCODING, bool DIVIDE>
__global__ void __launch_bounds__(BLOCK, RESIDENT) quantize_whole_kernel(const __grid_constant__ WholePlan whole) {
  constexpr int width = vector_width<Scalar>;
  __shared__ typename StageOf<ENCODING>::Type stage;
  __shared__ union {
    float sums[rows_at_once<Scalar> * (SIDE + 1)];
    uint32_t codes[SIDE * PITCH];
  } shared;
  const QuantizePlan &plan = whole.quantize;
  const PatchPlace place = place_of<Scalar>(whole);
  const int64_t column = place.patch_column + place.vector * width;
  uint4 raw[passes<Scalar>];
  uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < passes<Scalar>; i++) {
    const int64_t row = place.patch_row + place.row + i * rows_at_once<Scalar>;
    raw[i] = make_uint4(0, 0, 0, 0);
    if (row < whole.rows && column < whole.columns) {
      raw[i] = *reinterpret_cast<const uint4 *>(static_cast<const Scalar *>(plan.x) + row * whole.columns + column);
    }
  }
  Encoder<ENCODING> encoder(stage, plan.map);
  if (DIVIDE && sizeof(Scalar) == 4) encoder.scale_by(0x1p-24f);
#pragma unroll
  for (int i = 0; i < passes<Scalar>; i++) largest = raise<Scalar>(largest, raw[i]);
  largest = combine_across<BLOCK>(magnitude_bits(largest, Scalar()), [](uint32_t a, uint32_t b) { return max(a, b); });
  if (threadIdx.x == 0) whole.maxima[blockIdx.x] = largest;
  if (whole.sum) sum_patch<Scalar>(whole, place, raw, shared.sums);

  cooperative_groups::this_grid().sync();

  if (whole.sum) finish_sums(whole, place);
  const float scale = scale_of(plan, largest_of_grid(whole));
  if (plan.scale && blockIdx.x == 0) {
    for (int64_t i = threadIdx.x; i < whole.scale_count; i += BLOCK) plan.scale[i] = scale;
  }
  const VectorScaling scaling = vector_scaling<Scalar, ENCODING, DIVIDE>(plan, scaling_of<ENCODING>(plan, scale), 0);
#pragma unroll
  for (int i = 0; i < passes<Scalar>; i++) {
    const int patch_row = place.row + i * rows_at_once<Scalar>;
    if (place.patch_row + patch_row >= whole.rows || column >= whole.columns) continue;
    const int64_t at = (place.patch_row + patch_row) * whole.columns + column;
    Scalar *values = static_cast<Scalar *>(plan.values) + at;
    uint32_t codes[width / 4];
    if (scaling.slow) {
      const Scalar *x = static_cast<const Scalar *>(plan.x) + at;
      quantize_vector_slowly<Scalar, ENCODING>(plan, scaling.general, x, codes, values);
    } else {
      quantize_vector<Scalar, ENCODING, DIVIDE>(plan, encoder, scaling, raw[i], codes, values);
    }
    if (plan.codes) store_codes(plan.codes + at, codes);
    if (!whole.transposed) continue;
#pragma unroll
    for (int k = 0; k < width / 4; k++) shared.codes[patch_row * PITCH + place.vector * (width / 4) + k] = codes[k];
  }
  if (!whole.transposed) return;
  __syncthreads();
  write_transposed(whole, place, shared.codes);
}

int64_t patches_of(const WholePlan &plan) { return divide_up(plan.rows, SIDE) * divide_up(plan.columns, SIDE); }

template <typename Scalar> const void *kernel_of(const QuantizePlan &plan) {
  if (plan.divide) return (const void *)quantize_whole_kernel<Scalar, ENCODING_MAP, true>;
  return with_encoding(plan, [](auto encoding) {
    return (const void *)quantize_whole_kernel<Scalar, decltype(encoding)::value, false>;
  });
}

const void *kernel_of(const WholePlan &plan) {
  return with_scalar(plan.quantize.dtype, [&](auto scalar) { return kernel_of<decltype(scalar)>(plan.quantize); });
}

} // namespace

extern "C" int quantize_whole_grid(const WholePlan *plan, int multiprocessors) {
  const int64_t patches = patches_of(*plan);
  return patches <= (int64_t)multiprocessors * RESIDENT ? (int)patches : 0;
}

extern "C" cudaError_t launch_quantize_whole(Launch launch, const WholePlan *plan) {
  if (plan->rows == 0 || plan->columns == 0) return cudaSuccess;
  void *arguments[] = {const_cast<WholePlan *>(plan)};
  return cudaLaunchCooperativeKernel(kernel_of(*plan), dim3((unsigned)patches_of(*plan)), dim3(BLOCK), arguments, 0,
                                     launch.stream);
}
