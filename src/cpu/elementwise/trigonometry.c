#include "cpu/elementwise/trigonometry.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "cpu/vectorize.h"

/* x = n π/2 + r with |r| <= π/4, in double. π/2 is taken in two parts, of which the first has 33 bits, so that n times it
 * is exact. */
typedef struct Quadrant {
  double r;
  int64_t n; /* its low bits */
} Quadrant;

/* Above this, n has more than the 20 bits that leave the product exact. */
static const float largest_reduced = 0x1p20f;

INLINED Quadrant quadrant_of(float x) {
  /* Adding 1.5 · 2^52 rounds to an integer, which then stands in the low bits. */
  double shifted = __builtin_fma((double)x, 0.63661977236758134, 0x1.8p52), n = shifted - 0x1.8p52;
  Quadrant quadrant = {__builtin_fma(n, -0x1.0B4611A626331p-34, __builtin_fma(n, -0x1.921FB544p0, (double)x)), 0};
  memcpy(&quadrant.n, &shifted, sizeof shifted);
  return quadrant;
}

/* Interpolations of sin(r) / r and cos(r) as functions of r² at Chebyshev's nodes: relative errors below 1e-10. */

INLINED double sin_near_0(double r) {
  double s = r * r;
  double series = __builtin_fma(s, 2.7173380535726477e-06, -0.0001983920138864485);
  series = __builtin_fma(s, series, 0.008333328779738207);
  series = __builtin_fma(s, series, -0.16666666631563215);
  return r * __builtin_fma(s, series, 0.9999999999956688);
}

INLINED double cos_near_0(double r) {
  double s = r * r;
  double series = __builtin_fma(s, 2.4379747528000934e-05, -0.001388661709558747);
  series = __builtin_fma(s, series, 0.04166661666264678);
  series = __builtin_fma(s, series, -0.4999999961455023);
  return __builtin_fma(s, series, 0.9999999999524419);
}

INLINED float sine(float x, int64_t quarter_turns) {
  Quadrant quadrant = quadrant_of(x);
  int64_t n = quadrant.n + quarter_turns;
  double value = n & 1 ? cos_near_0(quadrant.r) : sin_near_0(quadrant.r);
  return (float)(n & 2 ? -value : value);
}

INLINED float tangent(float x) {
  Quadrant quadrant = quadrant_of(x);
  double sine = sin_near_0(quadrant.r), cosine = cos_near_0(quadrant.r);
  bool odd = quadrant.n & 1;
  return (float)((odd ? -cosine : sine) / (odd ? sine : cosine));
}

/* The others are few: one by one, by the C library. */
static void mend(float *out, const float *x, int n, float (*function)(float)) {
  for (int i = 0; i < n; i++) {
    if (fabsf(x[i]) > largest_reduced) out[i] = function(x[i]);
  }
}

VECTORIZE static int count_large(const float *x, int n) {
  int count = 0;
  for (int i = 0; i < n; i++) count += fabsf(x[i]) > largest_reduced;
  return count;
}

VECTORIZE static void sines(float *restrict out, const float *restrict x, int64_t quarter_turns, int n) {
  for (int i = 0; i < n; i++) out[i] = sine(x[i], quarter_turns);
}

VECTORIZE static void tangents(float *restrict out, const float *restrict x, int n) {
  for (int i = 0; i < n; i++) out[i] = tangent(x[i]);
}

void sin_floats(float *out, const float *x, int n) {
  sines(out, x, 0, n);
  if (count_large(x, n) > 0) mend(out, x, n, sinf);
}

void cos_floats(float *out, const float *x, int n) {
  sines(out, x, 1, n);
  if (count_large(x, n) > 0) mend(out, x, n, cosf);
}

void tan_floats(float *out, const float *x, int n) {
  tangents(out, x, n);
  if (count_large(x, n) > 0) mend(out, x, n, tanf);
}
