/* A matrix as codes for products that sum over its columns, and for those that sum over its rows. */
#ifndef FP8_CORE_BOTH_WAYS_H
#define FP8_CORE_BOTH_WAYS_H

#include "core/formats/quantizer.h"

/* What quantizing x (rows, columns), of the last dimension and all others, in two ways writes. A run is what shares a scale:
 * a whole row or column, or a part of one, the last maybe short; or a square of runs, which is one for both. */
typedef struct BothWays {
  Tensor *codes;            /* of x's shape */
  Tensor *scale;            /* f32 (runs of a row, rows); (squares down, squares across), rows of any stride */
  Tensor *transposed;       /* other codes of x, (columns, rows) */
  Tensor *transposed_scale; /* f32 (runs of a column, columns); (squares across, squares down), rows of any stride */
  Tensor *column_sum;       /* as in QuantizeOutputs, or NULL */
} BothWays;

/* The lengths of runs, and how their scales are rounded. Codes are nearest ones of a hardware format. */
typedef struct BothWaysRule {
  DType format;
  int64_t row_run, column_run;
  bool squares; /* of row_run rows and as many columns */
  ScaleRounding row_rounding, column_rounding;
} BothWaysRule;

#endif
