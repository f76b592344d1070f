/* What the two ways to fit scales on the CPU share: core/formats/fit.h. */
#ifndef FP8_CPU_FITTED_SCALE_FIT_H
#define FP8_CPU_FITTED_SCALE_FIT_H

#include "core/formats/fit.h"
#include "cpu/quantize/codes.h"

/* Blocks are tiles; those in row-major order tiles of one row. */
typedef struct Fit {
  const FitRule *rule;
  Quantizer quantizer;  /* to nearest */
  const Search *search; /* NULL where there is a grid */
  FitGrid grid;
  DType dtype;
  const void *x;
  float *scale;
  int64_t rows, columns, tile_rows, tile_columns, tiles_across;
} Fit;

/* Whether the values of a block with so large a magnitude, as bits, have no place in float32. */
static inline bool is_too_large(const Fit *job, uint32_t largest, float unit, float scale) {
  return !job->search && fit_overflows(&job->grid, largest, unit, scale);
}

/* What is above the scale of a block in E4M3. */
UpperScale upper_of_fit(const Fit *job, int64_t block);

/* Blocks of up to FIT_SHORT elements. */
void fit_short_blocks(const Fit *job);

#endif
