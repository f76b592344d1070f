/* Elements that are to be sorted: a key (core/order/sort_key.h) and a position, in one 64-bit item with the key above. All
 * items of a row are different, so that their order is the stable one however they are sorted. */
#ifndef FP8_CPU_ORDER_SORT_ITEM_H
#define FP8_CPU_ORDER_SORT_ITEM_H

#include <stdint.h>

#include "core/dtype.h"

static inline uint32_t item_position(uint64_t item) { return (uint32_t)item; }

/* Bits of the keys that are in items: of elements of 64 bits, the half of their keys. */
int item_bits(DType dtype);

/* Items start … start + n - 1 of a row, with the lower halves of keys of 64 bits. */
void make_items(DType dtype, bool descending, const void *row, int64_t start, int64_t n, uint64_t *item);

/* The upper halves of keys of 64 bits in place of the lower ones. */
void raise_items(bool descending, const int64_t *row, int64_t n, uint64_t *item);

/* Sorts by keys of so many bits, digit by digit from the lowest; items with one key stay in their order. Returns where they
 * are then: here or in `other`. */
uint64_t *sort_by_digits(uint64_t *item, uint64_t *other, int64_t n, int bits);

/* The same, few items by insertion: those with one key in the order of their positions, as they have to be before. */
uint64_t *sort_items(uint64_t *item, uint64_t *other, int64_t n, int bits);

#endif
