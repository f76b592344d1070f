#include "cpu/optim/moments.h"

#include <string.h>

#include "cpu/parallel.h"
#include "cpu/quantize/codes.h"
#include "cpu/vectorize.h"
#include "cpu/vectors.h"

void decode_moment(const Moment *moment, float *out, int64_t start, int n) {
  int64_t length = moment->format->blocksize, end = start + n;
  for (int64_t first = start; first < end;) {
    int64_t block = first / length, stop = (block + 1) * length < end ? (block + 1) * length : end;
    const uint8_t *codes = (const uint8_t *)moment->data + first;
    decode_scaled(moment->format, out + (first - start), codes, moment->scale[block], (int)(stop - first));
    first = stop;
  }
}

VECTORIZE static void scale_moments(float *values, float scale, float smallest, int n) {
  const BlockScaling scaling = block_scaling(scale, 1.0f / scale, false);
  for (int i = 0; i < n; i++) values[i] = second_scaled(values[i], scaled_element(values[i], &scaling), smallest);
}

void encode_moment(const Moment *moment, float *values, int64_t block, int n) {
  int64_t first = block * moment->format->blocksize;
  uint8_t *codes = (uint8_t *)moment->data + first;
  float scale = quantizer_scale(moment->format, largest_magnitude(values, n));
  moment->scale[block] = scale;
  scale_moments(values, scale, moment->smallest, n);
  for (int start = 0; start < n; start += CHUNK) {
    encode_scaled(moment->format, moment->search, codes + start, values + start, first + start, chunk_length(n, start));
  }
  /* Maps have no code for NaN. */
  if (!moment->search && scale != scale) memset(codes, FLOAT8_NAN, (size_t)n);
}
