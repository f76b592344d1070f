/* Codes of scaled numbers and numbers of codes, by a map or a hardware format. */
#ifndef FP8_CPU_QUANTIZE_CODES_H
#define FP8_CPU_QUANTIZE_CODES_H

#include "backend.h"
#include "cpu/quantize/search.h"

/* The code of NaN in both hardware formats. */
enum { FLOAT8_NAN = 0x7F };

/* The codes of n numbers (at most CHUNK, none of them NaN) that are x / scale of elements from `start` on. `search` is
 * the map's, or NULL. */
void encode_scaled(const Quantizer *quantizer, const Search *search, uint8_t *codes, const float *scaled, int64_t start,
                   int n);

/* out = what a code stands for · scale */
void decode_scaled(const Quantizer *quantizer, float *out, const uint8_t *codes, float scale, int n);

/* What n scaled numbers (at most CHUNK, none of them NaN) of elements from `start` on are rounded to, in their place; and
 * their codes, unless that is NULL. */
void round_scaled(const Quantizer *quantizer, const Search *search, uint8_t *codes, float *scaled, int64_t start,
                  int n);

/* The format's grid and the largest number that is rounded by it; false for formats without one. */
bool grid_of(const Quantizer *quantizer, FormatGrid *grid, float *limit);

/* scale_by_rule, for scales without others above them. */
float quantizer_scale(const Quantizer *quantizer, uint32_t magnitude);

/* What scales the elements of a block, with a scale that is known, or of so large a magnitude; `whole` is the upper scale
 * where one is for all blocks, which upper_of_all gives, or where there is none. */
BlockScaling scaling_with(const Quantizer *quantizer, float scale);
BlockScaling scaling_of_block(const Quantizer *quantizer, const UpperScale *whole, int64_t block, uint32_t magnitude);
UpperScale upper_of_all(const Quantizer *quantizer);

/* The same of n blocks from number `first` on: their scales, and what elements are multiplied with, which is 0 where they
 * count as 0 and infinite where they are divided. */
void scales_of_blocks(const Quantizer *quantizer, const UpperScale *whole, int64_t first, const uint32_t *magnitude,
                      float *scale, float *inverse, int n);
void known_scales(const float *known, float *scale, float *inverse, int n);

/* The bits of the largest magnitude of elements first … end - 1: on this thread, and on all of them. */
uint32_t range_magnitude(DType dtype, const void *data, int64_t first, int64_t end);
uint32_t parallel_magnitude(DType dtype, const void *data, int64_t first, int64_t end);

/* Tiles (tiles.c): all outputs of cpu_quantize but transposed and column_sum, and cpu_dequantize. */
bool quantize_tiles(const QuantizeOutputs *outputs, const Tensor *x, const Quantizer *quantizer);
void dequantize_tiles(Tensor *out, const Tensor *codes, const Tensor *scale, const Quantizer *quantizer);

#endif
