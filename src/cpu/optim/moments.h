/* Moments in 8 bits. */
#ifndef FP8_CPU_OPTIM_MOMENTS_H
#define FP8_CPU_OPTIM_MOMENTS_H

#include "core/optim.h"
#include "cpu/quantize/search.h"

/* A moment of a parameter: f32, or codes where there are scales. */
typedef struct Moment {
  void *data;
  float *scale;            /* one a block; else NULL */
  const Quantizer *format; /* of codes */
  const Search *search;    /* of a map */
  float smallest;          /* what is encoded of a number above 0 at least; 0 for any */
} Moment;

/* Elements start … start + n - 1, decoded. */
void decode_moment(const Moment *moment, float *out, int64_t start, int n);

/* Encodes the n elements of a block, which become something else. */
void encode_moment(const Moment *moment, float *values, int64_t block, int n);

#endif
