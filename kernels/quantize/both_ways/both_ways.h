/* The launchers of quantization along both sides of a matrix at once, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_QUANTIZE_BOTH_WAYS_H
#define FP8_KERNELS_QUANTIZE_BOTH_WAYS_H

#include "core/formats/scale.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BOTH_WAYS_SIDE = 128 };

/* Nearest codes of a hardware format of x (rows, columns), sides of multiples of 16, at multiples of 16 bytes: `codes` with
 * the scales of rows, `transposed` (columns, rows) with those of columns. Both are for runs of BOTH_WAYS_SIDE elements, or
 * else for whole rows and columns, whose magnitudes were measured before. */
typedef struct BothWaysPlan {
  const void *x;
  DType dtype; /* f32, f16 or bf16 */
  DType format;
  int64_t rows, columns;
  uint8_t *codes, *transposed;
  ScaleRounding row_rounding, column_rounding;
  float *row_scale;    /* (runs of a row, rows) */
  float *column_scale; /* (runs of a column, columns) */
  uint32_t
      *row_magnitudes; /* (rows), NULL for runs: the bits of the largest |x|, at least those of infinity if there is an
                                * infinity or a NaN */
  uint32_t *column_magnitudes; /* (columns), NULL for runs */
  float *partials;             /* NULL, or room for the column sums of every run of rows: (runs of a column, columns) */
} BothWaysPlan;
/* Raises the magnitudes, which are 0 or smaller before, to those of x, and sums. */
cudaError_t launch_measure_both_ways(Launch launch, const BothWaysPlan *plan);
/* Sums where there are runs. */
cudaError_t launch_quantize_both_ways(Launch launch, const BothWaysPlan *plan);

/* Both, for whole rows and columns, where the device holds the matrix at once. row_magnitudes (runs of a row, rows) and
 * column_magnitudes (runs of a column, columns) are room for a run's. */
bool both_ways_at_once(const BothWaysPlan *plan, int multiprocessors);
cudaError_t launch_quantize_both_ways_at_once(Launch launch, const BothWaysPlan *plan);

/* Codes where one scale is for a square of BOTH_WAYS_SIDE rows and columns, so that codes and transposed codes are the
 * same: row_scale (squares down, row_pitch) and column_scale (squares across, column_pitch). Without sums. */
typedef struct SquaresPlan {
  BothWaysPlan both;
  int64_t row_pitch, column_pitch;
} SquaresPlan;
cudaError_t launch_quantize_squares(Launch launch, const SquaresPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
