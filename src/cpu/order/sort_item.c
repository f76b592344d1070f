#include "cpu/order/sort_item.h"

#include "core/order/sort_key.h"
#include "cpu/vectorize.h"

enum {
  SHORT = 48,      /* so many items are sorted by insertion */
  DIGIT = 8,       /* bits */
  DIGITS_MOST = 4, /* of a key of 32 bits */
  BUCKETS = 1 << DIGIT
};

static uint64_t item_of(uint32_t key, uint32_t flip, int64_t position) {
  return (uint64_t)(key ^ flip) << 32 | (uint64_t)position;
}

VECTORIZE static void items_of_f32(uint64_t *restrict item, const uint32_t *restrict x, int64_t start, int64_t n,
                                   uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_f32(x[start + i]), flip, start + i);
}

VECTORIZE static void items_of_f16(uint64_t *restrict item, const uint16_t *restrict x, int64_t start, int64_t n,
                                   uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_f16(x[start + i]), flip, start + i);
}

VECTORIZE static void items_of_bf16(uint64_t *restrict item, const uint16_t *restrict x, int64_t start, int64_t n,
                                    uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_bf16(x[start + i]), flip, start + i);
}

VECTORIZE static void items_of_e4m3(uint64_t *restrict item, const uint8_t *restrict x, int64_t start, int64_t n,
                                    uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_e4m3(x[start + i]), flip, start + i);
}

VECTORIZE static void items_of_e5m2(uint64_t *restrict item, const uint8_t *restrict x, int64_t start, int64_t n,
                                    uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_e5m2(x[start + i]), flip, start + i);
}

VECTORIZE static void items_of_u8(uint64_t *restrict item, const uint8_t *restrict x, int64_t start, int64_t n,
                                  uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(x[start + i], flip, start + i);
}

VECTORIZE static void items_of_i32(uint64_t *restrict item, const int32_t *restrict x, int64_t start, int64_t n,
                                   uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of(sort_key_of_i32(x[start + i]), flip, start + i);
}

/* The low half of the keys. */
VECTORIZE static void items_of_i64(uint64_t *restrict item, const int64_t *restrict x, int64_t start, int64_t n,
                                   uint32_t flip) {
  for (int64_t i = 0; i < n; i++) item[i] = item_of((uint32_t)sort_key_of_i64(x[start + i]), flip, start + i);
}

int item_bits(DType dtype) {
  int bits = sort_key_bits(dtype);
  return bits < 32 ? bits : 32;
}

void make_items(DType dtype, bool descending, const void *row, int64_t start, int64_t n, uint64_t *item) {
  uint32_t flip = descending ? (uint32_t)(((uint64_t)1 << item_bits(dtype)) - 1) : 0;
  switch (dtype) {
  case DTYPE_F32:
    items_of_f32(item, row, start, n, flip);
    return;
  case DTYPE_F16:
    items_of_f16(item, row, start, n, flip);
    return;
  case DTYPE_BF16:
    items_of_bf16(item, row, start, n, flip);
    return;
  case DTYPE_E4M3:
    items_of_e4m3(item, row, start, n, flip);
    return;
  case DTYPE_E5M2:
    items_of_e5m2(item, row, start, n, flip);
    return;
  case DTYPE_U8:
    items_of_u8(item, row, start, n, flip);
    return;
  case DTYPE_I32:
    items_of_i32(item, row, start, n, flip);
    return;
  case DTYPE_I64:
    items_of_i64(item, row, start, n, flip);
    return;
  }
  trap_missing_case();
}

void raise_items(bool descending, const int64_t *row, int64_t n, uint64_t *item) {
  uint32_t flip = descending ? UINT32_MAX : 0;
  for (int64_t i = 0; i < n; i++) {
    uint32_t position = item_position(item[i]);
    item[i] = item_of((uint32_t)(sort_key_of_i64(row[position]) >> 32), flip, position);
  }
}

/* --- sorting --- */

static void insert_all(uint64_t *item, int64_t n) {
  for (int64_t i = 1; i < n; i++) {
    uint64_t moved = item[i];
    int64_t to = i;
    for (; to > 0 && item[to - 1] > moved; to--) item[to] = item[to - 1];
    item[to] = moved;
  }
}

uint64_t *sort_by_digits(uint64_t *item, uint64_t *other, int64_t n, int bits) {
  int digits = bits / DIGIT;
  uint32_t count[DIGITS_MOST][BUCKETS] = {{0}};
  for (int64_t i = 0; i < n; i++) {
    uint32_t key = (uint32_t)(item[i] >> 32);
    for (int d = 0; d < digits; d++) count[d][key >> d * DIGIT & (BUCKETS - 1)]++;
  }
  for (int d = 0; d < digits; d++) {
    int shift = 32 + d * DIGIT;
    uint32_t *place = count[d], sum = 0;
    if (place[item[0] >> shift & (BUCKETS - 1)] == n) continue; /* all have this digit in common */
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
      uint32_t size = place[bucket];
      place[bucket] = sum;
      sum += size;
    }
    for (int64_t i = 0; i < n; i++) other[place[item[i] >> shift & (BUCKETS - 1)]++] = item[i];
    uint64_t *swapped = item;
    item = other;
    other = swapped;
  }
  return item;
}

uint64_t *sort_items(uint64_t *item, uint64_t *other, int64_t n, int bits) {
  if (n > SHORT) return sort_by_digits(item, other, n, bits);
  insert_all(item, n);
  return item;
}
