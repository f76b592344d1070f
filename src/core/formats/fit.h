/* Scales that follow from more than a block's absmax: from other statistics of it, or chosen among several by the error that
 * they leave. */
#ifndef FP8_CORE_FIT_H
#define FP8_CORE_FIT_H

#include "core/formats/scale.h"

enum { FIT_CANDIDATES_MOST = 8, FIT_EIGHT = 8, FIT_SHORT = 512, FIT_PART = 4096, FIT_LANES = 1024 };

/* What the scales of a quantization are fitted to; all 0 where the absmax says it all. In place of the absmax counts
 *
 *   root_mean_square · √(Σ x² / n) + mean_magnitude · (Σ |x| / n)
 *
 * of the n elements of the block, where one of the two factors is not 0 and the sum is above 0. `factor`: if there are
 * candidates, that number is multiplied with each of these, and of the scales that follow the one is taken with which
 * Σ (x - value)² is least, rounding to nearest; the first of those that are equal. `largest_scale`: what the largest of
 * scales in E4M3 becomes under another one above it; 0 means 448.
 *
 * For the errors elements are multiplied with 1 / scale, and value is what the code stands for times the scale, not
 * rounded; differences and their squares are float32 (fit_unit keeps them within its range).
 *
 * Sums are in an order that both devices have: Σ (x - value)² of a part in float32, everything else in double. A block of
 * up to FIT_SHORT elements is one part: every eight neighbours, row-major, are added one after the other, and their sums,
 * with zeros behind them up to a power of two, in a tree: i to i + half of them, … i to i + 1. Longer ones are parts of
 * FIT_PART elements: element i of a part goes to lane i % FIT_LANES; eight neighbouring lanes are added in a tree, 32 of
 * their sums in a tree, and the four that are left one after the other. Part i goes to lane i % FIT_LANES, and all lanes
 * are added in a tree. */
typedef struct FitRule {
  float root_mean_square, mean_magnitude;
  float factor[FIT_CANDIDATES_MOST];
  int candidates;
  float largest_scale;
} FitRule;

PORTABLE bool fit_is_wanted(const FitRule *fit) {
  return fit->root_mean_square != 0 || fit->mean_magnitude != 0 || fit->candidates > 0 || fit->largest_scale > 0;
}

/* Whether Σ x² or Σ |x| is wanted. */
PORTABLE bool fit_is_summing(const FitRule *fit) { return fit->root_mean_square != 0 || fit->mean_magnitude != 0; }

typedef struct FitSums {
  double squares, magnitudes;
  uint32_t largest; /* the bits of the largest |x|, at least those of infinity for a broken block */
} FitSums;

/* What counts in place of the absmax, as bits. */
PORTABLE uint32_t fitted_magnitude(const FitRule *fit, const FitSums *sums, int64_t count) {
  if (sums->largest >= 0x7F800000u || (fit->root_mean_square == 0 && fit->mean_magnitude == 0)) return sums->largest;
  double n = (double)count, fitted = 0;
  if (fit->root_mean_square != 0) fitted = (double)fit->root_mean_square * sqrt(sums->squares / n);
  if (fit->mean_magnitude != 0) fitted += (double)fit->mean_magnitude * (sums->magnitudes / n);
  if (!(fitted > 0)) return sums->largest;
  return float_to_bits(fitted < (double)FLT_MAX ? (float)fitted : FLT_MAX);
}

/* Of numbers none of which is NaN, in the form that each compiler has an instruction for. */
PORTABLE float fit_larger(float a, float b) {
#ifdef __CUDA_ARCH__
  return fmaxf(a, b);
#else
  return a > b ? a : b;
#endif
}
PORTABLE float fit_smaller(float a, float b) {
#ifdef __CUDA_ARCH__
  return fminf(a, b);
#else
  return a < b ? a : b;
#endif
}

/* What counts in place of `magnitude` for candidate `i`. */
PORTABLE uint32_t fitted_candidate(const FitRule *fit, int i, uint32_t magnitude) {
  if (magnitude >= 0x7F800000u || fit->candidates == 0) return magnitude;
  return float_to_bits(fit_smaller(float_from_bits(magnitude) * fit->factor[i], FLT_MAX));
}

/* The scale of candidate `i`, or the only one; `upper` is for scales in E4M3. */
PORTABLE float fitted_scale(const FitRule *fit, int i, const ScaleRule *rule, const UpperScale *upper,
                            uint32_t magnitude) {
  magnitude = fitted_candidate(fit, i, magnitude);
  if (rule->rounding != SCALE_E4M3) return scale_by_rule(magnitude, rule);
  const BlockScaling scaling = scaling_below(scale_below(magnitude, upper), upper);
  return scaling.scale;
}

/* What is above the scales of blocks in E4M3. */
PORTABLE UpperScale fitted_upper_scale(const FitRule *fit, const ScaleRule *rule, float absmax) {
  return upper_scale_up_to(rule, fit->largest_scale > 0 ? fit->largest_scale : E4M3_LARGEST, absmax);
}

/* --- errors --- */

/* What elements and scales are multiplied with, so that squares of errors are float32 numbers: 1 for most blocks. `largest`:
 * the bits of the block's largest |x|, a finite one. */
PORTABLE float fit_unit(uint32_t largest) {
  enum { USUAL = 50, MOST = 100, BIAS = 127 };
  const int32_t exponent = (int32_t)(largest >> 23) - BIAS;
  if (exponent >= -USUAL && exponent <= USUAL) return 1.0f;
  return scale_of_exponent(BIAS - (exponent < -MOST ? -MOST : exponent));
}

/* What elements are multiplied with, of a scale in units: at most what leaves room for a grid's factor. */
PORTABLE float fit_inverse(float scale) {
  const float inverse = 1.0f / scale;
  return inverse < 0x1p100f ? inverse : 0x1p100f;
}

/* Rounding of magnitudes to a format's numbers, either way between two that are as near (Dekker, "A floating-point technique for
 * extending the available precision", 1971, section 5): the last bit of `large`, with what is scaled taken away from it, is
 * worth a step. */
typedef struct FitGrid {
  float factor, least; /* of `large` */
  float limit;
} FitGrid;

PORTABLE FitGrid fit_grid(const FormatGrid *grid, float limit) {
  const int dropped = grid_dropped(grid);
  FitGrid rounding;
  rounding.factor = float_from_bits((uint32_t)(127 + dropped) << 23) + 1.0f;
  rounding.least = 1.5f * float_from_bits((uint32_t)(127 + dropped + grid->exponent) << 23);
  rounding.limit = limit;
  return rounding;
}

/* Scaled numbers up to this round to the limit at most. */
PORTABLE float fit_bound(const FormatGrid *grid, float limit) {
  return limit * (1.0f + scale_of_exponent(127 - 2 - grid->bits));
}

/* Of a magnitude up to limit · scale, or past it by less than half of the last step; `larger_inverse` is the inverse times the
 * grid's factor. */
PORTABLE float fit_rounded(const FitGrid *grid, float x, float inverse, float larger_inverse) {
  const float large = fit_larger(x * larger_inverse, grid->least);
  return large - fmaf(-x, inverse, large);
}

/* value: what a code stands for. */
PORTABLE float fit_error(float x, float value, float scale) { return fmaf(-value, scale, x); }

/* Whether a block may have less error than `least`, by its largest magnitude and the largest value of the format: what that
 * element alone leaves is no more than the sum of all squares, since rounding keeps the order. */
PORTABLE bool fit_may_have_less(float largest, float most, float scale, float least) {
  const float beyond = fit_larger(fit_error(largest, most, scale), 0.0f);
  return beyond * beyond < least;
}

/* Whether what the largest magnitude of a block becomes is more than a float32 holds, so that its error is infinite. `scale` is
 * not in units, which are less than 1. */
PORTABLE bool fit_overflows(const FitGrid *grid, uint32_t largest, float unit, float scale) {
  const float inverse = fit_inverse(scale * unit);
  const float x = fit_smaller(float_from_bits(largest) * unit, grid->limit * (scale * unit));
  return fit_rounded(grid, x, inverse, inverse * grid->factor) * scale > FLT_MAX;
}

#endif
