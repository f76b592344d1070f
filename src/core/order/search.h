/* Looking for the place of a number in an ascending list: PyTorch's binary search, step for step, so that lists with NaNs
 * and in no order give what they give there. */
#ifndef FP8_CORE_ORDER_SEARCH_H
#define FP8_CORE_ORDER_SEARCH_H

#include "core/portable.h"

/* How many elements come before `value`: those below it or, if `right`, those not above it; all of them for NaN. */
PORTABLE int64_t search_floats(const float *list, int64_t length, float value, bool right) {
  int64_t begin = 0, end = length;
  while (begin < end) {
    int64_t middle = begin + ((end - begin) >> 1);
    if (right ? list[middle] > value : list[middle] >= value) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

PORTABLE int64_t search_integers(const int64_t *list, int64_t length, int64_t value, bool right) {
  int64_t begin = 0, end = length;
  while (begin < end) {
    int64_t middle = begin + ((end - begin) >> 1);
    if (right ? list[middle] > value : list[middle] >= value) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

/* The bin between ascending edges, bins + 1 of them, that holds `value`: edges[bin] <= value < edges[bin + 1], the last
 * bin with its upper edge; -1 where none does. Looks first where it is if the edges are at equal distances. */
PORTABLE int64_t bin_between(const float *edges, int64_t bins, float value) {
  float first = edges[0], last = edges[bins];
  if (!(value >= first && value <= last)) return -1;
  float place = (value - first) / (last - first) * (float)bins;
  int64_t guess = place >= 0 && place < (float)bins ? (int64_t)place : 0;
  if (guess < bins && edges[guess] <= value && value < edges[guess + 1]) return guess;
  int64_t bin = search_floats(edges, bins + 1, value, true) - 1;
  return bin < bins ? bin : bins - 1;
}

#endif
