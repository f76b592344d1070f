/* Functions of float32 in plain arithmetic without branches, so that loops over them vectorize. Relative errors stay
 * below 6e-7 of the exact result, measured over all of float32, except that exponentials below 2^-126 may be 0:
 * arithmetic with subnormal numbers is many times slower. Infinities, zeros and NaN behave as in C's library.
 * Polynomial coefficients are minimax fits in the relative error. */
#ifndef FP8_CPU_ELEMENTWISE_VECTOR_MATH_H
#define FP8_CPU_ELEMENTWISE_VECTOR_MATH_H

#include <string.h>

#include "core/activation.h"
#include "core/portable.h"
#include "cpu/vectorize.h"

/* a · b + c, rounded once: the same bits everywhere, and fast where the processor has it. */
INLINED float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

/* e^(x + correction) = 2^n · value, for a correction much smaller than 1: x = n ln 2 + r, e^r = 1 + r + r² P(r). */
typedef struct ExpParts {
  float value;
  int32_t n; /* any where the value is NaN */
} ExpParts;

/* Of x between -128 and 90. */
INLINED ExpParts exp_parts(float x, float correction) {
  /* Adding 1.5 · 2^23 rounds to an integer, which then stands in the low bits. */
  float shifted = fused(x, 1.44269504f, 0x1.8p23f);
  float n = shifted - 0x1.8p23f;
  float r = fused(n, -0x1.0bfbe8p-15f, fused(n, -0x1.62ep-1f, x)) + correction;
  float series = fused(r, 0.00139504881f, 0.00836888794f);
  series = fused(r, series, 0.04166620597f);
  series = fused(r, series, 0.16666518152f);
  series = fused(r, series, 0.5f);
  return (ExpParts){1.0f + fused(r * r, series, r), (int32_t)(float_to_bits(shifted) - 0x4B400000u)};
}

INLINED float vector_exp(float x) {
  float bounded = x < -87.33654f ? -87.33654f : x; /* log 2^-126 */
  bounded = bounded > 90.0f ? 90.0f : bounded;
  ExpParts part = exp_parts(bounded, 0.0f);
  /* 2^n in two factors: n goes up to 130. */
  int32_t half = part.n >> 1;
  float value = part.value * float_from_bits((uint32_t)(half + 127) << 23);
  value *= float_from_bits((uint32_t)(part.n - half + 127) << 23);
  value = x < -87.33654f ? 0.0f : value;
  return x != x ? x : value;
}

/* The same of x + correction, for x from -128 to 88: 2^n is one factor, which is 0 from 2^-127 down. */
INLINED float vector_exp_of_sum(float x, float correction) {
  ExpParts part = exp_parts(x, correction);
  int32_t exponent = part.n + 127;
  return part.value * float_from_bits((uint32_t)(exponent < 0 ? 0 : exponent) << 23);
}

/* The same for x that is not above 0, but for what rounding may have done. */
INLINED float vector_exp_down(float x) { return vector_exp_of_sum(x < -128.0f ? -128.0f : x, 0.0f); }

/* x = 2^n m with m in [sqrt(1/2), sqrt(2)); log m = 2t + rest, for t = (m - 1) / (m + 1), log m = 2 atanh(t). */
typedef struct LogParts {
  float n, t, rest;
} LogParts;

INLINED LogParts log_parts(float x) {
  int subnormal = x < 0x1p-126f;
  uint32_t bits = float_to_bits(subnormal ? x * 0x1p24f : x);
  /* Subtracting the bits of sqrt(1/2) leaves n in the exponent field. */
  int32_t exponent = (int32_t)(bits - 0x3F3504F3u) >> 23;
  float m = float_from_bits(bits - ((uint32_t)exponent << 23));
  float n = (float)(exponent - (subnormal ? 24 : 0));
  float t = (m - 1.0f) / (m + 1.0f);
  float s = t * t;
  float series = fused(s, 0.23582763970f, 0.28537279367f);
  series = fused(s, series, 0.40000334382f);
  series = fused(s, series, 0.66666662693f);
  return (LogParts){n, t, t * s * series};
}

/* The logarithm `value` of x, but of 0, infinity, NaN and what is below 0. */
INLINED float log_or_limit(float x, float value) {
  value = x == 0.0f ? -__builtin_inff() : value;
  value = x < 0.0f ? __builtin_nanf("") : value;
  return x < __builtin_inff() ? value : x; /* infinity and NaN */
}

INLINED float vector_log(float x) {
  LogParts part = log_parts(x);
  return log_or_limit(x, fused(part.n, 0x1.62ep-1f, fused(2.0f, part.t, fused(part.n, 0x1.0bfbe8p-15f, part.rest))));
}

/* Exact for powers of 2. */
INLINED float vector_log2(float x) {
  LogParts part = log_parts(x);
  float log_m = 2.0f * part.t + part.rest;
  return log_or_limit(x, part.n + log_m * 1.44269504f);
}

/* n log10(2) in two parts, of which the first is exact, so that powers of 10 give whole numbers. */
INLINED float vector_log10(float x) {
  LogParts part = log_parts(x);
  float log_m = 2.0f * part.t + part.rest;
  return log_or_limit(x, part.n * 0x1.344p-2f + (part.n * 0x1.3509f8p-18f + log_m * 0.434294482f));
}

/* log(1 + x) = x log(u) / (u - 1) for the rounded u = 1 + x, whose error is in both: Kahan's. */
INLINED float vector_log1p(float x) {
  float u = 1.0f + x;
  float value = vector_log(u) * (x / (u - 1.0f));
  value = u == 1.0f ? x : value;
  return x == __builtin_inff() ? x : value;
}

/* e^x - 1 = x (u - 1) / log(u) for the rounded u = e^x near 0, in the same way. */
INLINED float vector_expm1(float x) {
  float u = vector_exp(x), less = u - 1.0f;
  float value = less * (x / vector_log(u));
  value = u == 1.0f ? x : value;
  return x > -0.5f && x < 0.5f ? value : less;
}

/* x + x³ P(x²) near 0, elsewhere 1 - 2 / (e^(2|x|) + 1) with the sign of x. */
INLINED float vector_tanh(float x) {
  float magnitude = float_from_bits(float_to_bits(x) & 0x7FFFFFFF);
  float s = x * x;
  float series = fused(s, -0.00571704470f, 0.02065058611f);
  series = fused(s, series, -0.05374349654f);
  series = fused(s, series, 0.13331490755f);
  series = fused(s, series, -0.33333283663f);
  float small = magnitude + magnitude * s * series;
  float large = 1.0f - 2.0f / (vector_exp(2.0f * magnitude) + 1.0f);
  float value = magnitude < 0.625f ? small : large;
  return float_from_bits(float_to_bits(value) | (float_to_bits(x) & 0x80000000u));
}

/* Never takes e to a large power, so that neither end overflows. */
INLINED float vector_sigmoid(float x) {
  float magnitude = float_from_bits(float_to_bits(x) & 0x7FFFFFFF);
  float power = vector_exp_down(-magnitude);
  return (x < 0.0f ? power : 1.0f) / (1.0f + power);
}

/* e^(-t²/2) for t >= 0, of NaN anything; from about 13.26 on it is 0. r is fused from t itself: the rounding error of the
 * square, magnified by the exponential, would be seen. As integers, floats from 0 on compare as they do, in one
 * instruction. */
INLINED float vector_gauss(float t) {
  int32_t bits = (int32_t)float_to_bits(t), most = 0x41547AE1; /* 13.28 */
  float bounded = float_from_bits((uint32_t)(bits < most ? bits : most)), half = -0.5f * bounded;
  /* n + 127, the exponent of the power in float32, stands in the low bits, and n ≥ -127 so that it is not negative. */
  float shifted = fused(half * bounded, 1.44269504f, 0x1.8p23f + 127.0f);
  float n = shifted - (0x1.8p23f + 127.0f);
  float r = fused(n, -0x1.0bfbe8p-15f, fused(half, bounded, n * -0x1.62ep-1f));
  float series = fused(r, 0.00831251f, 0.04189027f);
  series = fused(r, series, 0.16667115f);
  series = fused(r, series, 0.49999231f);
  float power = float_from_bits(float_to_bits(shifted) << 23);
  return fused(fused(r * r, series, r), power, power);
}

/* The normal distribution function Φ(x), given gauss = e^(-x²/2). */
INLINED float vector_normal_cdf(float x, float gauss) {
  float magnitude = float_from_bits(float_to_bits(x) & 0x7FFFFFFF);
  float tail = gauss * normal_tail_ratio(1.0f / fused(0.3f, magnitude, 1.0f));
  return x < 0.0f ? tail : 1.0f - tail;
}

/* Φ(-t) for t >= 0, whose ratio to gauss = e^(-t²/2) is a minimax fit up to 13.28, where gauss is 0. */
INLINED float vector_normal_tail(float t, float gauss) {
  float above = fused(t, 6.56976660e-6f, 0.398633115f), below = t + 7.46785894f;
  above = fused(t, above, 2.98540899f);
  above = fused(t, above, 9.42684398f);
  above = fused(t, above, 13.8636770f);
  below = fused(t, below, 24.80351826f);
  below = fused(t, below, 40.97672494f);
  below = fused(t, below, 27.72735759f);
  return gauss * above / below;
}

/* x Φ(x) as max(x, 0) - |x| Φ(-|x|), with bounds of integers, each one instruction. A NaN passes by the second or by the
 * third, by its sign, and infinity by the third. */
INLINED float vector_gelu(float x) {
  uint32_t bits = float_to_bits(x), sign = 0x80000000u;
  int32_t magnitude = (int32_t)(bits & ~sign), most = 0x41547AE1; /* 13.28 */
  float t = float_from_bits((uint32_t)(magnitude < most ? magnitude : most));
  float negative = float_from_bits((uint32_t)((int32_t)bits < most ? (int32_t)bits : most) | sign);
  float positive = float_from_bits(bits < sign ? bits : sign); /* or -0 */
  return fused(negative, vector_normal_tail(t, vector_gauss(t)), positive);
}

/* log2 of a finite x > 0 in double: x = 2^n m with m in [√½, √2), log2 m = t P(t²) for t = (m - 1) / (m + 1). Relative
 * errors below 1e-11. */
INLINED double log2_in_double(float x) {
  double wide = (double)x;
  uint64_t bits;
  memcpy(&bits, &wide, sizeof bits);
  int64_t n = (int64_t)(bits - 0x3FE6A09E00000000) >> 52; /* the high bits of √½ */
  bits -= (uint64_t)n << 52;
  double m;
  memcpy(&m, &bits, sizeof m);
  double t = (m - 1.0) / (m + 1.0), s = t * t;
  double series = __builtin_fma(s, 0.3407162278889582, 0.41167355098848213);
  series = __builtin_fma(s, series, 0.5770835693909355);
  series = __builtin_fma(s, series, 0.9617966734349909);
  series = __builtin_fma(s, series, 2.885390081789999);
  return (double)n + t * series;
}

/* 2^x for |x| up to 1000, from double; relative errors below 1e-10. */
INLINED double exp2_in_double(double x) {
  double shifted = x + 0x1.8p52, r = x - (shifted - 0x1.8p52);
  double series = __builtin_fma(r, 1.530372131876705e-05, 0.0001546975574051286);
  series = __builtin_fma(r, series, 0.0013333478408833717);
  series = __builtin_fma(r, series, 0.009618025530414706);
  series = __builtin_fma(r, series, 0.05550410906375489);
  series = __builtin_fma(r, series, 0.2402265121411991);
  series = __builtin_fma(r, series, 0.6931471805568266);
  series = __builtin_fma(r, series, 0.999999999959497);
  uint64_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023) << 52;
  double power;
  memcpy(&power, &bits, sizeof power);
  return series * power;
}

/* a^b, within a unit in the last place; 1 where a is 1 or b is 0, even of NaN, and the other limits of C's library. */
INLINED float vector_pow(float a, float b) {
  float magnitude = float_from_bits(float_to_bits(a) & 0x7FFFFFFF), infinity = __builtin_inff();
  double logarithm = log2_in_double(magnitude);
  logarithm = magnitude == 0.0f ? -(double)infinity : logarithm;
  logarithm = magnitude == infinity ? (double)infinity : logarithm;
  double exponent = (double)b * logarithm; /* 0 of a = -1 and any b */
  exponent = magnitude == 1.0f ? 0.0 : exponent;
  exponent = exponent > 500.0 ? 500.0 : exponent;
  exponent = exponent < -500.0 ? -500.0 : exponent;
  float value = (float)exp2_in_double(exponent);
  value = a != a || b != b ? a + b : value;
  float half = 0.5f * b;
  int whole = __builtin_rintf(b) == b, odd = whole & (__builtin_rintf(half) != half);
  value = odd ? float_from_bits(float_to_bits(value) ^ (float_to_bits(a) & 0x80000000u)) : value;
  value = (a < 0.0f) & (a > -infinity) & !whole ? __builtin_nanf("") : value;
  return (a == 1.0f) | (b == 0.0f) ? 1.0f : value;
}

/* The error function: x P(x²) near 0, elsewhere 1 - 2 Φ(-√2 |x|) with the sign of x. */
INLINED float vector_erf(float x) {
  float magnitude = float_from_bits(float_to_bits(x) & 0x7FFFFFFF);
  float s = x * x;
  float series = fused(s, 0.0000785386099f, -0.000801019351f);
  series = fused(s, series, 0.00518832767f);
  series = fused(s, series, -0.0268538119f);
  series = fused(s, series, 0.112835851f);
  series = fused(s, series, -0.376126258f);
  series = fused(s, series, 1.12837917f);
  float far = -1.41421356f * magnitude;
  float large = 1.0f - 2.0f * vector_normal_cdf(far, vector_gauss(-far));
  float value = magnitude < 1.0f ? magnitude * series : large;
  return float_from_bits(float_to_bits(value) | (float_to_bits(x) & 0x80000000u));
}

#endif
