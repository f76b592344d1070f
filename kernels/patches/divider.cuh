/* Quotients by numbers that are the same for a whole grid. */
#ifndef FP8_KERNELS_PATCHES_DIVIDER_CUH
#define FP8_KERNELS_PATCHES_DIVIDER_CUH

#include "common.cuh"

namespace {

/* Quotients by a number below 2^31, which take a product and a shift where the dividend is below that, too: Granlund and
 * Montgomery, "Division by invariant integers using multiplication" (1994). */
struct Divider {
  uint32_t divisor, factor;
  int shift;

  explicit Divider(int64_t number) : divisor((uint32_t)number), factor(0), shift(0) {
    if (number <= 1) return;
    while ((int64_t)1 << shift < number) shift++;
    factor = (uint32_t)((((uint64_t)1 << (31 + shift)) + divisor - 1) / divisor);
    shift--;
  }

  __device__ int64_t operator()(int64_t number) const {
    if (divisor <= 1) return number;
    return number <= INT32_MAX ? __umulhi((uint32_t)number, factor) >> shift : number / divisor;
  }
};

} // namespace

#endif
