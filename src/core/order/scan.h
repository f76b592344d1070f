/* Running sums and products along a dimension. Those of floats are kept in double, products as a fraction and an exponent,
 * so that neither a sum nor a product of finite numbers overflows or vanishes on the way; each result is rounded once.
 * Those of integers have 64 bits and wrap around. */
#ifndef FP8_CORE_ORDER_SCAN_H
#define FP8_CORE_ORDER_SCAN_H

#include <math.h>

#include "core/portable.h"

typedef enum ScanOp { SCAN_SUM, SCAN_PROD } ScanOp;

typedef struct ScanRule {
  ScanOp op;
  bool reverse; /* from the last element to the first */
} ScanRule;

/* fraction · 2^exponent, the fraction from 1 to below 2 but for its sign, or 0, infinite or NaN. */
typedef struct WideProduct {
  double fraction;
  int64_t exponent;
} WideProduct;

PORTABLE uint64_t double_to_bits(double value) {
#ifdef __CUDA_ARCH__
  return (uint64_t)__double_as_longlong(value);
#else
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
#endif
}

PORTABLE double double_from_bits(uint64_t bits) {
#ifdef __CUDA_ARCH__
  return __longlong_as_double((long long)bits);
#else
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

/* A double holds the product of a fraction and so many numbers of float32, and none of these is subnormal there. */
enum { WIDE_FACTORS = 4 };

/* value · 2^exponent; the value is not subnormal. */
PORTABLE WideProduct wide_product(double value, int64_t exponent) {
  uint64_t bits = double_to_bits(value);
  int64_t field = (int64_t)(bits >> 52 & 0x7FF);
  bool scales = field != 0 && field != 0x7FF;
  WideProduct product;
  product.fraction = scales ? double_from_bits((bits & 0x800FFFFFFFFFFFFFu) | 0x3FF0000000000000u) : value;
  product.exponent = scales ? exponent + field - 1023 : exponent;
  return product;
}

PORTABLE WideProduct multiply_products(WideProduct a, WideProduct b) {
  return wide_product(a.fraction * b.fraction, a.exponent + b.exponent);
}

/* As a double where float32 holds it; beyond that, what rounds to infinity or 0 in every float dtype. The fraction may have
 * been multiplied with up to WIDE_FACTORS numbers. */
PORTABLE double product_value(WideProduct product) {
  int64_t exponent = product.exponent < -1000 ? -1000 : product.exponent > 1000 ? 1000 : product.exponent;
  return product.fraction * double_from_bits((uint64_t)(exponent + 1023) << 52);
}

#endif
