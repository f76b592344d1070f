/* Patches of 64 columns in the shared memory of the warps that work on them. */
#ifndef FP8_NARROW_PATCH_CUH
#define FP8_NARROW_PATCH_CUH

#include "quantize/narrow/state.cuh"
#include "shared_address.cuh"

namespace {

enum { VECTORS = PATCH_COLUMNS / 8, GROUP = 16 };

/* A patch of 32 rows for each of its warps, which share the work: each takes as many turns as one alone. */
enum { WARP_ROWS = 32 };

template <int TEAM> __device__ inline int number_in_team() { return threadIdx.x / WARP % TEAM; }

/* Barriers have constant numbers: one that the compiler does not know takes all of a multiprocessor's. */
template <int TEAM> __device__ inline void wait_for_team() {
  static_assert(TEAM == 1 || TEAM == 2 && WARPS == 4, "two barriers");
  if (TEAM == 1) {
    __syncwarp();
  } else if (threadIdx.x < BLOCK / 2) {
    asm volatile("barrier.sync 1, 64;" ::: "memory");
  } else {
    asm volatile("barrier.sync 2, 64;" ::: "memory");
  }
}

/* The same, and whether something is so for any of its lanes. */
template <int TEAM> __device__ inline bool is_for_any(bool condition) {
  if (TEAM == 1) {
    __syncwarp();
    return __any_sync(all_lanes, condition);
  }
  uint32_t any;
  if (threadIdx.x < BLOCK / 2) {
    asm volatile("{ .reg .pred own, any; setp.ne.u32 own, %1, 0; barrier.red.or.pred any, 1, 64, own; "
                 "selp.u32 %0, 1, 0, any; }"
                 : "=r"(any)
                 : "r"((uint32_t)condition)
                 : "memory");
  } else {
    asm volatile("{ .reg .pred own, any; setp.ne.u32 own, %1, 0; barrier.red.or.pred any, 2, 64, own; "
                 "selp.u32 %0, 1, 0, any; }"
                 : "=r"(any)
                 : "r"((uint32_t)condition)
                 : "memory");
  }
  return any;
}

template <int TEAM> struct PatchStage {
  alignas(128) uint4 vector[TEAM * WARP_ROWS][VECTORS]; /* of row i, vector k at place k ^ turn_of(i) */
  /* Of every 16 columns of each row, or of each column (place_of_pair) in every 16 rows. */
  alignas(16) Factors factors[TEAM * WARP_ROWS * PATCH_COLUMNS / GROUP];
};

/* Lanes that read one column of 8 rows, or the same words of rows 16 or 32 apart, meet in no bank. */
__device__ inline int turn_of(int row) { return (row & 7) ^ (row >> 2 & 4) ^ (row >> 4 & 2); }

/* Where the factors of two neighbouring columns begin among a group's: lanes that read those of eight meet in no bank. */
__device__ inline int place_of_pair(int word) { return 2 * (word ^ word >> 3); }

__device__ inline uint4 shared_vector(uint32_t address) {
  uint4 vector;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(vector.x), "=r"(vector.y), "=r"(vector.z), "=r"(vector.w)
               : "r"(address)
               : "memory");
  return vector;
}

/* The first of a lane's vectors, which are in every fourth of its warp's rows. */
template <int TEAM> __device__ inline int first_row_of_lane() {
  return number_in_team<TEAM>() * WARP_ROWS + threadIdx.x % WARP / VECTORS;
}

template <int TEAM> __device__ inline void fetch_patch(PatchStage<TEAM> &stage, const uint4 *from, int64_t pitch) {
  const int first = first_row_of_lane<TEAM>(), across = threadIdx.x % VECTORS;
  const uint32_t place = shared_address(&stage.vector[first][across ^ turn_of(first)]);
#pragma unroll
  for (int i = 0; i < WARP_ROWS / 4; i++) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 :
                 : "r"((place ^ (i & 1 ^ i >> 2) << 6) + i * 4 * PATCH_COLUMNS * 2), "l"(from + 4 * i * pitch)
                 : "memory");
  }
}
template <int TEAM> __device__ inline void await_patch() {
  asm volatile("cp.async.wait_all;" ::: "memory");
  wait_for_team<TEAM>();
}

} // namespace

#endif
