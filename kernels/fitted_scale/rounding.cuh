/* Errors of elements that a candidate rounds, by a grid or by a map. */
#ifndef FP8_FITTED_SCALE_ROUNDING_CUH
#define FP8_FITTED_SCALE_ROUNDING_CUH

#include "fitted_scale/held.cuh"
#include "quantize/encode.cuh"

namespace {

/* What rounds a candidate's elements, and adds up errors by sum_of; own(v, k): whether an element exists, for maps, whose
 * entries may be far from 0. */
template <bool GRID> struct Rounding;

template <> struct Rounding<true> {
  struct Stage {};
  FitGrid grid;
  float bound; /* scaled numbers up to this need no limit */

  __device__ Rounding(Stage &, const FittedPlan &plan) : grid(plan.grid), bound(plan.bound) {}

  __device__ bool may_have_less(uint32_t largest, float scale, float unit, float least) const {
    return fit_may_have_less(float_from_bits(largest) * unit, grid.limit, scale * unit, least);
  }

  template <int EIGHTS, typename F, typename Own>
  __device__ float error_of(const Held<EIGHTS> &held, uint32_t largest, float scale, float unit, F sum_of, Own) const {
    const float in_units = scale * unit, inverse = fit_inverse(in_units), larger_inverse = inverse * grid.factor;
    const bool within = float_from_bits(largest) * unit * inverse <= bound && unit >= 1.0f;
    if (__all_sync(all_lanes, within)) {
      return sum_of([&](float sum, int v, int k) {
        const float rounded = fit_rounded(&grid, held.x[v][k], inverse, larger_inverse);
        const float error = fit_error(held.x[v][k], rounded, in_units);
        return fmaf(error, error, sum);
      });
    }
    const float cap = grid.limit * in_units;
    const float sum = sum_of([&](float sum, int v, int k) {
      const float rounded = fit_rounded(&grid, fminf(held.x[v][k], cap), inverse, larger_inverse);
      const float error = fit_error(held.x[v][k], rounded, in_units);
      return fmaf(error, error, sum);
    });
    return unit < 1.0f && fit_overflows(&grid, largest, unit, scale) ? INFINITY : sum;
  }
};

template <> struct Rounding<false> {
  /* The entries have so many copies side by side, a lane keeping to one: fewer lanes meet in a bank. */
  enum { COPIES = 8 };
  struct Stage {
    LookupStage lookup;
    float value[MAP_SIZE * COPIES];
  };
  const MapTable *map;
  const float *value;
  const uint32_t *origin;
  int shift;
  float factor, low, high, most;
  bool looks_up;

  /* The whole thread block together. */
  __device__ Rounding(Stage &stage, const FittedPlan &plan) : map(plan.quantize.map), looks_up(plan.looks_up) {
    for (int i = threadIdx.x; i < MAP_SIZE * COPIES; i += blockDim.x) stage.value[i] = map->value[i / COPIES];
    const Encoder<ENCODING_MAP> encoder(stage.lookup, map);
    origin = encoder.origin;
    value = stage.value + threadIdx.x % COPIES;
    shift = encoder.shift;
    factor = encoder.factor;
    low = fmaxf(encoder.value[0], -plan.quantize.rule.limit);
    high = fminf(encoder.value[MAP_SIZE - 1], plan.quantize.rule.limit);
    most = fmaxf(-low, high);
  }

  __device__ bool may_have_less(uint32_t largest, float scale, float unit, float least) const {
    return fit_may_have_less(float_from_bits(largest) * unit, most, scale * unit, least);
  }

  __device__ float error(float x, float inverse, float scale) const {
    const float scaled = fminf(fmaxf(x * inverse, low), high);
    const uint32_t code =
        looks_up ? lookup_word(origin, shift, factor, scaled) >> 24 : map_nearest(map->midpoint, map->start, scaled);
    return fit_error(x, value[code * COPIES], scale);
  }

  template <int EIGHTS, typename F, typename Own>
  __device__ float error_of(const Held<EIGHTS> &held, uint32_t, float scale, float unit, F sum_of, Own own) const {
    scale *= unit;
    const float inverse = fit_inverse(scale);
    if (__all_sync(all_lanes, own(EIGHTS - 1, FIT_EIGHT - 1))) {
      return sum_of([&](float sum, int v, int k) {
        const float own_error = error(held.x[v][k], inverse, scale);
        return fmaf(own_error, own_error, sum);
      });
    }
    return sum_of([&](float sum, int v, int k) {
      const float own_error = own(v, k) ? error(held.x[v][k], inverse, scale) : 0.0f;
      return fmaf(own_error, own_error, sum);
    });
  }
};

} // namespace

#endif
