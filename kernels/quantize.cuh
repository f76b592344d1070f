/* How a scaled number becomes a code and a code a number again: by a map in shared memory, or a hardware format. */
#ifndef FP8_QUANTIZE_CUH
#define FP8_QUANTIZE_CUH

#include "common.cuh"

/* ENCODING_ANY looks at the plan in every call, for rarely used shapes; the others leave only their own code in a
 * kernel. */
enum Encoding { ENCODING_MAP, ENCODING_E4M3, ENCODING_E5M2, ENCODING_ANY };

inline Encoding encoding_of(const QuantizePlan &plan) {
  if (plan.map) return ENCODING_MAP;
  return plan.format == DTYPE_E4M3 ? ENCODING_E4M3 : ENCODING_E5M2;
}

template <Encoding ENCODING> __device__ inline bool uses(const QuantizePlan &plan, Encoding encoding) {
  if (ENCODING != ENCODING_ANY) return ENCODING == encoding;
  if (plan.map) return encoding == ENCODING_MAP;
  return encoding == (plan.format == DTYPE_E4M3 ? ENCODING_E4M3 : ENCODING_E5M2);
}

/* `random` is 32 uniform bits, unused unless `stochastic`. */
template <Encoding ENCODING>
__device__ inline uint8_t encode(const QuantizePlan &plan, const MapTable &table, float scaled, bool stochastic,
                                 uint32_t random) {
  if (uses<ENCODING>(plan, ENCODING_MAP)) {
    return stochastic ? map_stochastic(table.value, table.midpoint, table.start, scaled, random)
                      : map_nearest(table.midpoint, table.start, scaled);
  }
  if (uses<ENCODING>(plan, ENCODING_E4M3)) {
    return stochastic ? e4m3_stochastic(scaled, random) : e4m3_from_float(scaled, true);
  }
  return stochastic ? e5m2_stochastic(scaled, random) : e5m2_from_float(scaled, true);
}

/* The entries of a map in `value`, or a hardware format. */
template <Encoding ENCODING>
__device__ inline float decode(const QuantizePlan &plan, const float *value, uint8_t code) {
  if (uses<ENCODING>(plan, ENCODING_MAP)) return value[code];
  return uses<ENCODING>(plan, ENCODING_E4M3) ? e4m3_to_float(code) : e5m2_to_float(code);
}

/* Copies `bytes` (a multiple of 16) of a map's table into shared memory, the whole thread block together. */
__device__ inline void stage_table(void *shared, const MapTable *table, int bytes) {
  const uint4 *from = reinterpret_cast<const uint4 *>(table);
  uint4 *to = static_cast<uint4 *>(shared);
  for (int i = threadIdx.x; i < bytes / (int)sizeof(uint4); i += blockDim.x) to[i] = from[i];
  __syncthreads();
}

#endif
