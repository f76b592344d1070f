/* How the scales of a matrix of codes lie in memory: one for all of it, one a row, or one for every 128 neighbouring
 * elements of a row, or of 128 rows. */
#ifndef FP8_CORE_SCALE_GRID_H
#define FP8_CORE_SCALE_GRID_H

#include "core/tensor.h"

enum { SCALE_RUN = 128 };

/* The scale of element `column` of row `row` is data[row / rows_each · row_step + column / SCALE_RUN · run_step]. */
typedef struct ScaleGrid {
  int64_t rows_each; /* 1 or SCALE_RUN */
  int64_t row_step, run_step;
  int64_t rows, runs; /* that have scales of their own */
} ScaleGrid;

static inline int64_t scale_runs(int64_t length) { return (length + SCALE_RUN - 1) / SCALE_RUN; }

/* Whether `scale` has a scale for every run of SCALE_RUN columns: a matrix with a row for each of codes (rows, columns), or
 * for every SCALE_RUN of them. */
static inline bool scale_has_runs(const Tensor *scale, const Tensor *codes) {
  int64_t rows = codes->size[0];
  return scale->rank == 2 && scale->size[1] == scale_runs(codes->size[1]) &&
         (scale->size[0] == rows || scale->size[0] == scale_runs(rows));
}

/* Of a scale that has runs, or else is contiguous with one element, or one a row. */
static inline ScaleGrid scale_grid(const Tensor *scale, const Tensor *codes) {
  ScaleGrid grid = {1, 0, 0, 1, 1};
  if (tensor_count(scale) == 1) return grid;
  if (!scale_has_runs(scale, codes)) {
    grid.row_step = 1;
    grid.rows = codes->size[0];
    return grid;
  }
  grid.rows_each = scale->size[0] == codes->size[0] ? 1 : SCALE_RUN;
  grid.row_step = scale->stride[0];
  grid.run_step = scale->stride[1];
  grid.rows = scale->size[0];
  grid.runs = scale->size[1];
  return grid;
}

#endif
