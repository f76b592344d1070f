/* Unsigned integers that order as elements do: NaN of any bits last, both zeros equal, others by value. Elements that are
 * equal have one key. */
#ifndef FP8_CORE_ORDER_SORT_KEY_H
#define FP8_CORE_ORDER_SORT_KEY_H

#include "core/dtype.h"
#include "core/portable.h"

/* Bits of a key, as many as of an element. */
PORTABLE int sort_key_bits(DType dtype) { return (int)dtype_size(dtype) * 8; }

/* Of the bits of a float whose sign is the bit `sign`, and infinity, or its largest number if it has none, `largest`. */
PORTABLE uint32_t sort_key_of_float(uint32_t bits, uint32_t sign, uint32_t largest) {
  uint32_t magnitude = bits & (sign - 1);
  uint32_t key = (bits & sign) && magnitude != 0 ? sign - magnitude : sign + magnitude;
  return magnitude > largest ? sign | (sign - 1) : key;
}

PORTABLE uint32_t sort_key_of_f32(uint32_t bits) { return sort_key_of_float(bits, 0x80000000u, 0x7F800000u); }
PORTABLE uint32_t sort_key_of_f16(uint32_t bits) { return sort_key_of_float(bits, 0x8000, 0x7C00); }
PORTABLE uint32_t sort_key_of_bf16(uint32_t bits) { return sort_key_of_float(bits, 0x8000, 0x7F80); }
PORTABLE uint32_t sort_key_of_e4m3(uint32_t bits) { return sort_key_of_float(bits, 0x80, 0x7E); }
PORTABLE uint32_t sort_key_of_e5m2(uint32_t bits) { return sort_key_of_float(bits, 0x80, 0x7C); }
PORTABLE uint32_t sort_key_of_i32(int32_t value) { return (uint32_t)value ^ 0x80000000u; }
PORTABLE uint64_t sort_key_of_i64(int64_t value) { return (uint64_t)value ^ 0x8000000000000000u; }

/* Whether a key of so many bits is that of elements of one value alone that is stored in one way only, not of zeros or NaN. */
PORTABLE bool sort_key_tells_float(uint32_t key, int bits) {
  uint32_t sign = (uint32_t)1 << (bits - 1);
  return key != sign && key != (sign | (sign - 1));
}

/* The bits of that element. */
PORTABLE uint32_t float_of_sort_key(uint32_t key, int bits) {
  uint32_t sign = (uint32_t)1 << (bits - 1);
  return key > sign ? key - sign : sign | (sign - key);
}

#endif
