/* What the attention kernels for Hopper share: tiles that a warpgroup of its own fetches, products with them, and the
 * tensor maps that bulk copies take. */
#ifndef FP8_ATTENTION_HOPPER_CUH
#define FP8_ATTENTION_HOPPER_CUH

#include "attention/hopper_launch.h"
#include "attention/visible.cuh"
#include "attention/warpgroup.cuh"

/* The kernels are empty in machine code of other kinds, for which they are never launched. */
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define FP8_HOPPER
#endif

namespace {

enum { FETCHING_REGISTERS = 24 };

/* How a kernel divides its work: GROUPS warpgroups that compute, 64 rows each, and one that fetches; tiles of COLUMNS
 * rows of the other operands, STAGES of them in shared memory; BLOCKS thread blocks on a multiprocessor. */
template <int GROUPS, int COLUMNS, int STAGES, int BLOCKS> struct Division {
  static constexpr int groups = GROUPS, columns = COLUMNS, stages = STAGES, blocks = BLOCKS;
  static constexpr int rows = GROUPS * 64, threads = (GROUPS + 1) * WARPGROUP;
  /* Registers of a thread at launch, and what is left for one that computes. */
  static constexpr int at_launch = 65536 / threads / BLOCKS / 8 * 8;
  static constexpr int spare =
      ((GROUPS + 1) * (at_launch > 255 ? 255 : at_launch) - FETCHING_REGISTERS) / GROUPS / 8 * 8;
  static constexpr int registers = spare > 240 ? 240 : spare;
};

/* A ring of stages: full where the bytes have come, empty where all warps that compute are done with them. */
template <int STAGES> struct Ring {
  uint64_t full[STAGES], empty[STAGES];

  /* By one thread. */
  __device__ void init(int warps) {
    for (int stage = 0; stage < STAGES; stage++) {
      init_barrier(&full[stage], 1);
      init_barrier(&empty[stage], warps);
    }
  }
  __device__ void wait_full(int turn) { wait_for_phase(&full[turn % STAGES], turn / STAGES % 2); }
  __device__ void wait_empty(int turn) { wait_for_phase(&empty[turn % STAGES], turn / STAGES % 2 ^ 1); }
  /* By all lanes of a warp: the turn's stage may be filled again. */
  __device__ void release(int turn) {
    if (threadIdx.x % WARP == 0) arrive(&empty[turn % STAGES]);
  }
};

/* --- tiles: for every 64 features ROWS rows of 128 bytes --- */

template <int ROWS, int FEATURES> constexpr int swizzled_elements = ROWS *FEATURES;
template <int ROWS, int FEATURES> constexpr int swizzled_bytes = 2 * swizzled_elements<ROWS, FEATURES>;

/* Rows of a head from `first` on, zeros beyond the last; by one thread, which has told the barrier of the bytes. */
template <int ROWS, int FEATURES>
__device__ inline void copy_tile(uint16_t *tile, const CUtensorMap *map, uint64_t *barrier, int first, int64_t head,
                                 int64_t batch) {
#pragma unroll
  for (int part = 0; part < FEATURES / SWIZZLED_ROW; part++) {
    copy_box(tile + part * ROWS * SWIZZLED_ROW, map, barrier, part * SWIZZLED_ROW, first, (int)head, (int)batch);
  }
}

/* The warp's 16 rows from `first` on as a left operand; zeros beyond the last. */
template <typename Scalar, int FEATURES>
__device__ inline void load_left_rows(uint32_t (&left)[FEATURES / 16][4], const HeadRows &rows, int first) {
  const int lane = threadIdx.x % WARP, row = first + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int step = 0; step < FEATURES / 16; step++) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int position = row + k % 2 * 8;
      const uint16_t *from = rows.data + position * rows.stride + step * 16 + k / 2 * 8 + column;
      left[step][k] = position < rows.count ? *reinterpret_cast<const uint32_t *>(from) : 0;
    }
  }
}

/* 64 rows of a tile of TILE_ROWS as a left operand. */
template <int TILE_ROWS> struct SharedRows { const uint16_t *first; };

/* Results, rounded, as a left operand. */
template <typename Scalar, int FRAGMENTS>
__device__ inline void pack_left(uint32_t (&left)[FRAGMENTS / 2][4], const float (&x)[FRAGMENTS][4]) {
#pragma unroll
  for (int step = 0; step < FRAGMENTS / 2; step++) pack_step<Scalar>(left[step], x[2 * step], x[2 * step + 1]);
}

/* --- products, begun: whoever needs their results commits and waits --- */

template <int FRAGMENTS> __device__ inline float (&eight(float (&x)[FRAGMENTS][4], int first))[8][4] {
  return reinterpret_cast<float(&)[8][4]>(x[first]);
}

template <int STEPS> __device__ inline const uint32_t (&left_step(const uint32_t (&left)[STEPS][4], int step))[4] {
  return left[step];
}

template <int TILE_ROWS> __device__ inline uint64_t left_step(const SharedRows<TILE_ROWS> &left, int step) {
  const uint16_t *part = left.first + step / 4 * TILE_ROWS * SWIZZLED_ROW;
  return advance(describe(part, SWIZZLE_BYTES), step % 4 * 32);
}

/* sum (64, ROWS) = left · tileᵀ, with a left operand of registers or in shared memory. */
template <typename Scalar, int ROWS, int FEATURES, typename Left>
__device__ inline void begin_rows(float (&sum)[ROWS / 8][4], const Left &left, const uint16_t *tile) {
#pragma unroll
  for (int n = 0; n < ROWS / 64; n++) {
#pragma unroll
    for (int step = 0; step < FEATURES / 16; step++) {
      const uint16_t *part = tile + (step / 4 * ROWS + n * 64) * SWIZZLED_ROW;
      const uint64_t b = advance(describe(part, SWIZZLE_BYTES), step % 4 * 32);
      if (step == 0) {
        multiply_64<0, false>(eight(sum, 8 * n), left_step(left, step), b, Scalar());
      } else {
        multiply_64<0, true>(eight(sum, 8 * n), left_step(left, step), b, Scalar());
      }
    }
  }
}

/* sum (64, FEATURES) += left (64, ROWS) · tile. */
template <typename Scalar, int ROWS, int FEATURES>
__device__ inline void begin_columns(float (&sum)[FEATURES / 8][4], const uint32_t (&left)[ROWS / 16][4],
                                     const uint16_t *tile) {
#pragma unroll
  for (int step = 0; step < ROWS / 16; step++) {
#pragma unroll
    for (int n = 0; n < FEATURES / 64; n++) {
      const uint16_t *part = tile + n * ROWS * SWIZZLED_ROW;
      const uint64_t b = advance(describe(part, SWIZZLE_BYTES), step * 2 * SWIZZLE_BYTES);
      multiply_64<1, true>(eight(sum, 8 * n), left[step], b, Scalar());
    }
  }
}

/* --- launching --- */

/* A map of one tensor's positions in boxes of so many, of all heads or of those that a group shares; false if the driver
 * takes no such map. */
bool make_map(CUtensorMap *map, const AttentionPlan &plan, const AttentionOperand &operand, int positions, int box,
              int group) {
  static const auto encode = [] {
    void *function = nullptr;
    cudaDriverEntryPointQueryResult found;
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    return error == cudaSuccess ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function) : nullptr;
  }();
  const CUtensorMapDataType type =
      plan.dtype == DTYPE_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const cuuint64_t sizes[4] = {(cuuint64_t)plan.features, (cuuint64_t)positions, (cuuint64_t)(plan.heads / group),
                               (cuuint64_t)plan.batch};
  const cuuint64_t strides[3] = {(cuuint64_t)operand.position * 2, (cuuint64_t)operand.head * 2,
                                 (cuuint64_t)operand.batch * 2};
  const cuuint32_t box_sizes[4] = {SWIZZLED_ROW, (cuuint32_t)box, 1, 1}, steps[4] = {1, 1, 1, 1};
  return encode && encode(map, type, 4, operand.data, sizes, strides, box_sizes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                          CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                          CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

/* run(Scalar(), Features<N>()) of the plan's dtype and its 64 or 128 features. */
template <typename Run> cudaError_t run_wide(const AttentionPlan &plan, Run run) {
  return run_typed(plan, [&](auto scalar, auto features) {
    if constexpr (features.value >= SWIZZLED_ROW) return run(scalar, features);
    return cudaErrorNotSupported;
  });
}

/* A thread block for every Sizes::rows of `rows` of every head. */
template <typename Sizes, typename Kernel, typename Maps>
cudaError_t start_hopper(Launch launch, Kernel kernel, const AttentionPlan &plan, const Maps &maps, int rows,
                         int bytes) {
  const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error != cudaSuccess) return error;
  const int64_t grid = plan.batch * plan.heads * divide_up(rows, Sizes::rows);
  kernel<<<(unsigned)grid, Sizes::threads, bytes, launch.stream>>>(plan, maps);
  return cudaGetLastError();
}

} // namespace

#endif
