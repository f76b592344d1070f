/* Whether tensors share memory of which some is written. */
#ifndef FP8_OPS_SUPPORT_APART_H
#define FP8_OPS_SUPPORT_APART_H

#include "ops/support/support.h"

/* The bytes of a contiguous tensor, and whether an operation writes them. */
typedef struct Extent {
  const char *begin, *end;
  bool written;
} Extent;

/* Of a tensor without memory, an empty one. */
Extent extent_of(const Tensor *tensor, bool written);

/* Whether no two extents have bytes in common of which one is written. Sorts them. */
bool are_apart(Extent *extent, int count);
/* Fails where they have. */
bool check_apart(Extent *extent, int count);

#endif
