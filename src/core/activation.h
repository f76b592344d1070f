/* The parts of elementwise functions that the CPU and the kernels share. */
#ifndef FP8_CORE_ACTIVATION_H
#define FP8_CORE_ACTIVATION_H

#include <math.h>

#include "core/portable.h"

#define LN_2 0.693147181f
#define LN_10 2.30258509f
#define TWO_OVER_SQRT_PI 1.12837917f

/* GELU by tanh is x/2 · (1 + tanh u) = x · σ(2u) with u = √(2/π) (x + 0.044715 x³): Hendrycks and Gimpel, "Gaussian
 * error linear units" (2016). This is 2u. */
PORTABLE float gelu_tanh_argument(float x) { return 1.59576912f * (x + 0.044715f * x * x * x); }

/* The derivative of 2u. */
PORTABLE float gelu_tanh_slope(float x) { return 1.59576912f * (1.0f + 0.134145f * x * x); }

/* x, kept where x³ does not overflow; beyond ±10 σ(2u) is 0 or 1 to the last bit. NaN stays NaN. */
PORTABLE float gelu_tanh_bounded(float x) {
  float raised = x < -10.0f ? -10.0f : x;
  return raised > 10.0f ? 10.0f : raised;
}

/* The normal distribution function below -|x|, over e^(-x²/2), of u = 1 / (1 + 0.3 |x|): a minimax fit, whose relative
 * error is below 5e-7. */
PORTABLE float normal_tail_ratio(float u) {
  float series = fmaf(u, -0.02062866092f, 0.11246479303f);
  series = fmaf(u, series, -0.22828480601f);
  series = fmaf(u, series, 0.19188332558f);
  series = fmaf(u, series, -0.07950920612f);
  series = fmaf(u, series, 0.09620495886f);
  series = fmaf(u, series, 0.07837220281f);
  series = fmaf(u, series, 0.11023934931f);
  series = fmaf(u, series, 0.11957131326f);
  series = fmaf(u, series, 0.11968671530f);
  return u * series;
}

#endif
