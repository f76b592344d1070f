/* What thread blocks of a cluster tell one another, from Hopper on. */
#ifndef FP8_KERNELS_CLUSTER_CUH
#define FP8_KERNELS_CLUSTER_CUH

#include "shared_address.cuh"

#if __CUDA_ARCH__ >= 900

namespace {

/* The address of a thread block's own variable in another one of its cluster. */
__device__ inline uint32_t address_in_block(const void *data, int rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(data)), "r"(rank));
  return address;
}

/* A barrier of all thread blocks that orders nothing but what init_messages does. */
__device__ inline void arrive_in_cluster() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" : : : "memory"); }
__device__ inline void wait_in_cluster() { asm volatile("barrier.cluster.wait.acquire.aligned;" : : : "memory"); }

/* --- messages: words that are written into other thread blocks, and a barrier in each that counts their bytes; unlike barriers
 * of the whole cluster nothing waits for what else was written --- */

/* By one thread, before the cluster's first barrier. */
__device__ inline void init_messages(uint64_t *barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" : : "r"(shared_address(barrier)) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
}

/* By one thread, once a turn. */
__device__ inline void expect_messages(uint64_t *barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :
               : "r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

/* `word` and `barrier` as they are called in the thread block that sends. */
__device__ inline void send_message(uint32_t *word, uint64_t *barrier, int rank, uint32_t value) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];"
               :
               : "r"(address_in_block(word, rank)), "r"(value), "r"(address_in_block(barrier, rank))
               : "memory");
}

/* Until all that a turn expects has come; `parity` is that of the turn. */
__device__ inline void wait_for_messages(uint64_t *barrier, int parity) {
  asm volatile("{ .reg .pred done;\n"
               "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@!done bra again; }"
               :
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
}

} // namespace

#endif

#endif
