#include "cpu/quantize/codes.h"

#include "core/float_formats.h"
#include "cpu/random.h"
#include "cpu/vectorize.h"

VECTORIZE static void cast_nearest(uint8_t *restrict codes, const float *restrict values, DType format, int n) {
  if (format == DTYPE_E4M3) {
    for (int i = 0; i < n; i++) codes[i] = e4m3_from_float(values[i], true);
  } else {
    for (int i = 0; i < n; i++) codes[i] = e5m2_from_float(values[i], true);
  }
}

VECTORIZE static void cast_stochastic(uint8_t *restrict codes, const float *restrict values,
                                      const uint32_t *restrict words, DType format, int n) {
  if (format == DTYPE_E4M3) {
    for (int i = 0; i < n; i++) codes[i] = e4m3_stochastic(values[i], words[i]);
  } else {
    for (int i = 0; i < n; i++) codes[i] = e5m2_stochastic(values[i], words[i]);
  }
}

void encode_scaled(const Quantizer *quantizer, const Search *search, uint8_t *codes, const float *scaled, int64_t start,
                   int n) {
  uint32_t word_buffer[RANDOM_WORDS];
  const uint32_t *words = NULL;
  if (quantizer->stochastic) words = random_words(quantizer->random, (uint64_t)start, n, word_buffer);
  if (search) {
    search_codes(search, codes, scaled, n);
    if (words) search_round_up(search, codes, scaled, words, n);
  } else if (words) {
    cast_stochastic(codes, scaled, words, quantizer->format, n);
  } else {
    cast_nearest(codes, scaled, quantizer->format, n);
  }
}

VECTORIZE static void decode_hardware(float *restrict out, const uint8_t *restrict codes, DType format, float scale,
                                      int n) {
  if (format == DTYPE_E4M3) {
    for (int i = 0; i < n; i++) out[i] = e4m3_to_float(codes[i]) * scale;
  } else {
    for (int i = 0; i < n; i++) out[i] = e5m2_to_float(codes[i]) * scale;
  }
}

void decode_scaled(const Quantizer *quantizer, float *out, const uint8_t *codes, float scale, int n) {
  if (quantizer->map) {
    search_decode(quantizer->map->table.value, out, codes, scale, n);
  } else {
    decode_hardware(out, codes, quantizer->format, scale, n);
  }
}

VECTORIZE uint32_t largest_magnitude(const float *x, int n) {
  uint32_t largest = 0;
  for (int i = 0; i < n; i++) {
    uint32_t magnitude = float_to_bits(x[i]) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

float quantizer_scale(const Quantizer *quantizer, uint32_t magnitude) {
  return scale_of_magnitude(magnitude, quantizer->format, quantizer->scale_rounding);
}
