/* Whether tensors share memory of which some is written. */
#ifndef FP8_OPS_OPTIM_APART_H
#define FP8_OPS_OPTIM_APART_H

#include "ops/support/support.h"

/* The bytes of a contiguous tensor. */
typedef struct Extent {
  const char *begin, *end;
  bool written;
} Extent;

Extent extent_of(const Tensor *tensor, bool written);

/* Fails if two ranges have bytes in common of which one is written. Sorts the ranges. */
bool check_apart(Extent *range, int count);

#endif
