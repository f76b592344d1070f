/* A lane's share of a patch, rounded to nearest: what quantize_vector (ways_vector.cuh) gives for each vector where all rows
 * exist and no factor is rare, in fewer instructions. What rows share is read before the first of them. */
#ifndef FP8_WAYS_NEAREST_CUH
#define FP8_WAYS_NEAREST_CUH

#include "quantize/warp_patches.cuh"
#include "quantize/ways_vector.cuh"

namespace {

/* Four scaled numbers, which are elements of `raw` from number `first` on, as codes or as numbers times their scales: by the
 * chip's conversions. */
template <Encoding ENCODING, int DROPPED> struct Nearest {
  __device__ explicit Nearest(const WayPlan &) {}
  __device__ static uint32_t round(const float *scaled) {
    return Encoder<ENCODING>::pair(scaled[0], scaled[1]) | Encoder<ENCODING>::pair(scaled[2], scaled[3]) << 16;
  }
  template <typename Scalar> __device__ uint32_t codes(const float *scaled, const uint4 &, int) const {
    return round(scaled);
  }
  __device__ void values(const float *scale, float *value) const {
    const uint32_t word = round(value);
    Encoder<ENCODING>::numbers(word, value[0], value[1]);
    Encoder<ENCODING>::numbers(word >> 16, value[2], value[3]);
#pragma unroll
    for (int k = 0; k < 4; k++) value[k] *= scale[k];
  }
};

/* By exponents, as grid_nearest, but of magnitudes, and with sums that are powers of two: a number is rounded to whole steps
 * in the last places of its sum with one. DROPPED: grid_dropped, or 0 for any. */
template <int DROPPED> struct Nearest<ENCODING_GRID, DROPPED> {
  float limit;
  uint32_t above; /* the exponent's distance of that power, as bits */
  uint32_t least; /* the smallest such power */
  uint32_t even;  /* with which the lowest byte of a sum that is added to its own exponent is the number of steps */
  int dropped;

  __device__ explicit Nearest(const WayPlan &way) {
    const FormatGrid &grid = way.quantize.grid;
    limit = way.quantize.rule.limit;
    dropped = DROPPED > 0 ? DROPPED : grid_dropped(&grid);
    above = (uint32_t)dropped << 23;
    least = ((uint32_t)(grid.exponent + 127) << 23) + above;
    even = 0 - (least >> dropped) & 0xFFu;
  }
  /* The power of two for a number that is not negative. */
  __device__ uint32_t power(float number, uint32_t more) const {
    return max((float_to_bits(number) & 0x7F800000u) + (above + more), least + more);
  }
  /* As grid_code. */
  template <typename Scalar> __device__ uint32_t codes(const float *scaled, const uint4 &raw, int first) const {
    uint32_t word[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float cut = fminf(fabsf(scaled[k]), limit);
      const uint32_t sum = float_to_bits(cut + float_from_bits(power(cut, even)));
      word[k] = sum + (sum >> dropped);
    }
    return grid_codes(lowest_bytes(word), signs_of_four<Scalar>(raw, first));
  }
  /* 0 has no sign after a sum. */
  __device__ void values(const float *scale, float *value) const {
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float cut = fminf(fabsf(value[k]), limit), sum = float_from_bits(power(cut, 0));
      const uint32_t factor = float_to_bits(scale[k]) | (float_to_bits(value[k]) & 0x80000000u);
      value[k] = __fmaf_rn((cut + sum) - sum, float_from_bits(factor), 0.0f);
    }
  }
};

/* factors_at(j, k): those of element k in row j. */
template <typename Scalar, typename Nearest, typename Found>
__device__ inline void round_rows(const WayPlan &way, const Found &factors_at, const uint4 (&vector)[ROWS][WARP],
                                  int64_t columns, int64_t at) {
  constexpr int width = vector_width<Scalar>;
  const Nearest nearest(way);
  const auto scaled_row = [&](int j, float(&value)[width], float(&scale)[width]) {
    const uint4 raw = vector[j][threadIdx.x % WARP];
    unpack<Scalar>(raw, value);
#pragma unroll
    for (int k = 0; k < width; k++) {
      const Factors factors = factors_at(j, k);
      value[k] *= factors.inverse;
      scale[k] = factors.scale;
    }
    return raw;
  };
  float value[width], scale[width];
  if (way.quantize.codes) {
    uint8_t *codes = way.quantize.codes + at;
#pragma unroll 2
    for (int j = 0; j < ROWS; j++, codes += columns) {
      const uint4 raw = scaled_row(j, value, scale);
      Packed<uint32_t, width / 4> four;
#pragma unroll
      for (int k = 0; k < width; k += 4) four.element[k / 4] = nearest.template codes<Scalar>(value + k, raw, k);
      *reinterpret_cast<Packed<uint32_t, width / 4> *>(codes) = four;
    }
  }
  if (!way.quantize.values) return;
  Scalar *values = static_cast<Scalar *>(way.quantize.values) + at;
#pragma unroll 2
  for (int j = 0; j < ROWS; j++, values += columns) {
    scaled_row(j, value, scale);
#pragma unroll
    for (int k = 0; k < width; k += 4) nearest.values(scale + k, value + k);
    store_vector(reinterpret_cast<uint4 *>(values), pack<Scalar>(value));
  }
}

/* False for what is left to quantize_vector. A whole warp together; rare: whether a factor is that this lane has found. */
template <typename Scalar, typename Found>
__device__ inline bool rounds_rows(const WayPlan &way, const Found &factors_at, bool rare, int have,
                                   const uint4 (&vector)[ROWS][WARP], int64_t columns, int64_t at) {
  const QuantizePlan &plan = way.quantize;
  if (sizeof(Scalar) == 4 && plan.values && plan.values_dtype != DTYPE_F32) return false;
  if (!plan.map && !FLOAT8_CONVERSIONS) return false;
  if (!__all_sync(all_lanes, have == ROWS && !rare)) return false;
  if (plan.map && grid_dropped(&plan.grid) == 22) {
    round_rows<Scalar, Nearest<ENCODING_GRID, 22>>(way, factors_at, vector, columns, at);
  } else if (plan.map) {
    round_rows<Scalar, Nearest<ENCODING_GRID, 0>>(way, factors_at, vector, columns, at);
  } else if (plan.format == DTYPE_E4M3) {
    round_rows<Scalar, Nearest<ENCODING_E4M3, 0>>(way, factors_at, vector, columns, at);
  } else {
    round_rows<Scalar, Nearest<ENCODING_E5M2, 0>>(way, factors_at, vector, columns, at);
  }
  return true;
}

} // namespace

#endif
