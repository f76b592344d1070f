/* Scales that follow from more than a block's absmax: from other statistics of it, or chosen among several by the error that
 * they leave. */
#ifndef FP8_CORE_FIT_H
#define FP8_CORE_FIT_H

#include "core/formats/scale.h"

enum { FIT_CANDIDATES_MOST = 8, FIT_PART = 16384 };

/* What the scales of a quantization are fitted to; all 0 where the absmax says it all. In place of the absmax counts
 *
 *   root_mean_square · √(Σ x² / n) + mean_magnitude · (Σ |x| / n)
 *
 * of the n elements of the block, where one of the two factors is not 0 and the sum is above 0. `factor`: if there are
 * candidates, that number is multiplied with each of these, and of the scales that follow the one is taken with which
 * Σ (x - value)² is least, rounding to nearest; the first of those that are equal. `largest_scale`: what the largest of
 * scales in E4M3 becomes under another one above it; 0 means 448.
 *
 * A scale in E4M3 is the factor that codes stand for multiples of (scale.h), and elements are multiplied with 1 / scale.
 *
 * Sums are accumulated in double, and in an order that both devices have: element i of a block, row-major, goes to lane
 * i % fit_lanes; the lanes of each 32 are added in a tree, i to i + 16, i + 8 … i + 1, and the sums of 32 one after the
 * other; so for every FIT_PART elements of a block, whose sums are added one after the other. */
typedef struct FitRule {
  float root_mean_square, mean_magnitude;
  float factor[FIT_CANDIDATES_MOST];
  int candidates;
  float largest_scale;
} FitRule;

PORTABLE bool fit_is_wanted(const FitRule *fit) {
  return fit->root_mean_square != 0 || fit->mean_magnitude != 0 || fit->candidates > 0 || fit->largest_scale > 0;
}

/* Of blocks of `length` elements. */
PORTABLE int fit_lanes(int64_t length) { return length <= 512 ? 32 : 1024; }

typedef struct FitSums {
  double squares, magnitudes;
  uint32_t largest; /* the bits of the largest |x|, at least those of infinity for a broken block */
} FitSums;

/* Those of a block, or its first parts, with those of the part that follows. */
PORTABLE FitSums fit_sums_with(const FitSums *sums, const FitSums *part) {
  FitSums both;
  both.squares = sums->squares + part->squares;
  both.magnitudes = sums->magnitudes + part->magnitudes;
  both.largest = sums->largest > part->largest ? sums->largest : part->largest;
  return both;
}

/* What counts in place of the absmax, as bits. */
PORTABLE uint32_t fitted_magnitude(const FitRule *fit, const FitSums *sums, int64_t count) {
  if (sums->largest >= 0x7F800000u || (fit->root_mean_square == 0 && fit->mean_magnitude == 0)) return sums->largest;
  double n = (double)count;
  double fitted =
      (double)fit->root_mean_square * sqrt(sums->squares / n) + (double)fit->mean_magnitude * (sums->magnitudes / n);
  if (!(fitted > 0)) return sums->largest;
  return float_to_bits(fitted < (double)FLT_MAX ? (float)fitted : FLT_MAX);
}

/* What counts in place of `magnitude` for candidate `i`. */
PORTABLE uint32_t fitted_candidate(const FitRule *fit, int i, uint32_t magnitude) {
  if (magnitude >= 0x7F800000u || fit->candidates == 0) return magnitude;
  return float_to_bits(fminf(float_from_bits(magnitude) * fit->factor[i], FLT_MAX));
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

#endif
