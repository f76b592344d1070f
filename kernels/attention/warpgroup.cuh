/* Hopper's tensor cores and bulk copies (PTX ISA: wgmma, cp.async.bulk.tensor, mbarrier), for machine code of sm_90a.
 *
 * A warpgroup of 128 threads multiplies 64 rows at once, in the background: the left operand in its registers, the right
 * one in shared memory, where bulk copies have put it in rows of 128 bytes whose 16-byte pieces are swizzled. Warp w of
 * the group holds rows 16 w … 16 w + 15 of operands and results, laid out as in attention.cuh. */
#ifndef FP8_ATTENTION_WARPGROUP_CUH
#define FP8_ATTENTION_WARPGROUP_CUH

#include <cuda.h>

#include "shared_address.cuh"

namespace {

enum {
  WARPGROUP = 128,
  SWIZZLED_ROW = 64,    /* elements of a row of shared memory: 128 bytes */
  SWIZZLE_BYTES = 1024, /* of eight rows, after which the pattern repeats: what tiles are aligned to */
};

/* --- barriers that count arrivals and bytes --- */

__device__ inline void init_barrier(uint64_t *barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
/* After init_barrier, before bulk copies use the barriers. */
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ inline void arrive_expecting(uint64_t *barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}
/* Until the phase of this parity is over: phases count from 0, and the one before the first is. */
__device__ inline void wait_for_phase(uint64_t *barrier, int parity) {
  asm volatile("{\n"
               ".reg .pred done;\n"
               "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@!done bra again;\n"
               "}" ::"r"(shared_address(barrier)),
               "r"(parity)
               : "memory");
}

/* --- bulk copies --- */

/* A box of the map from (feature, position, head, batch) on, by one thread; `barrier` counts its bytes. */
__device__ inline void copy_box(void *to, const CUtensorMap *map, uint64_t *barrier, int feature, int position,
                                int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, "
      "%6}], [%2];" ::"r"(shared_address(to)),
      "l"(map), "r"(shared_address(barrier)), "r"(feature), "r"(position), "r"(head), "r"(batch)
      : "memory");
}

/* --- products --- */

__device__ inline void fence_operands() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* Until at most PENDING of the last commits are still computed. Whoever reads their results calls settle() after it. */
template <int PENDING> __device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
/* Keeps the compiler from moving uses of the registers to before this place. */
template <int FRAGMENTS> __device__ inline void settle(float (&x)[FRAGMENTS][4]) {
#pragma unroll
  for (int n = 0; n < FRAGMENTS; n++) {
#pragma unroll
    for (int k = 0; k < 4; k++) asm volatile("" : "+f"(x[n][k])::"memory");
  }
}

/* A swizzled operand in shared memory: `eight_rows` bytes from eight rows to the next eight. */
__device__ inline uint64_t describe(const void *tile, int eight_rows) {
  const uint64_t swizzle_128 = (uint64_t)1 << 62;
  return swizzle_128 | (uint64_t)(eight_rows >> 4) << 32 | (uint64_t)1 << 16 | (shared_address(tile) & 0x3FFFF) >> 4;
}
/* The description of what lies so many bytes further. */
__device__ inline uint64_t advance(uint64_t description, int bytes) { return description + (bytes >> 4); }

#define FP8_RESULTS(how, x)                                                                                            \
  how(x[0][0]), how(x[0][1]), how(x[0][2]), how(x[0][3]), how(x[1][0]), how(x[1][1]), how(x[1][2]), how(x[1][3]),      \
      how(x[2][0]), how(x[2][1]), how(x[2][2]), how(x[2][3]), how(x[3][0]), how(x[3][1]), how(x[3][2]), how(x[3][3]),  \
      how(x[4][0]), how(x[4][1]), how(x[4][2]), how(x[4][3]), how(x[5][0]), how(x[5][1]), how(x[5][2]), how(x[5][3]),  \
      how(x[6][0]), how(x[6][1]), how(x[6][2]), how(x[6][3]), how(x[7][0]), how(x[7][1]), how(x[7][2]), how(x[7][3])
#define FP8_MULTIPLY_64(type, how, adds, left, right, flags, ...)                                                      \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " "                                         \
               "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
               "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " left ", " right ", " adds ", 1, 1, " flags ";\n"  \
               : FP8_RESULTS(how, sum)                                                                                 \
               : "n"(TRANSPOSED), __VA_ARGS__)
#define FP8_MULTIPLY_64_REGISTERS(type)                                                                                \
  if constexpr (ADDS) {                                                                                                \
    FP8_MULTIPLY_64(type, "+f", "1", "{%33, %34, %35, %36}", "%37", "%32", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), \
                    "l"(b));                                                                                           \
  } else {                                                                                                             \
    FP8_MULTIPLY_64(type, "=&f", "0", "{%33, %34, %35, %36}", "%37", "%32", "r"(a[0]), "r"(a[1]), "r"(a[2]),           \
                    "r"(a[3]), "l"(b));                                                                                \
  }
#define FP8_MULTIPLY_64_SHARED(type)                                                                                   \
  if constexpr (ADDS) {                                                                                                \
    FP8_MULTIPLY_64(type, "+f", "1", "%33", "%34", "0, %32", "l"(a), "l"(b));                                          \
  } else {                                                                                                             \
    FP8_MULTIPLY_64(type, "=&f", "0", "%33", "%34", "0, %32", "l"(a), "l"(b));                                         \
  }

/* sum (64, 64) = or, ADDS, += a (64, 16) · b: rows of b are its columns (64, 16), or, TRANSPOSED, its rows (16, 64). */
template <int TRANSPOSED, bool ADDS>
__device__ inline void multiply_64(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, BFloat16) {
  FP8_MULTIPLY_64_REGISTERS("bf16");
}
template <int TRANSPOSED, bool ADDS>
__device__ inline void multiply_64(float (&sum)[8][4], const uint32_t (&a)[4], uint64_t b, Half) {
  FP8_MULTIPLY_64_REGISTERS("f16");
}
/* The same with rows of `a` in shared memory. */
template <int TRANSPOSED, bool ADDS>
__device__ inline void multiply_64(float (&sum)[8][4], uint64_t a, uint64_t b, BFloat16) {
  FP8_MULTIPLY_64_SHARED("bf16");
}
template <int TRANSPOSED, bool ADDS>
__device__ inline void multiply_64(float (&sum)[8][4], uint64_t a, uint64_t b, Half) {
  FP8_MULTIPLY_64_SHARED("f16");
}
#undef FP8_MULTIPLY_64_SHARED
#undef FP8_MULTIPLY_64_REGISTERS
#undef FP8_MULTIPLY_64
#undef FP8_RESULTS

/* --- the registers of a thread, where roles need unequal numbers --- */

template <int COUNT> __device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> __device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

} // namespace

#endif
