/* The launchers of sorting, with their descriptor (kernels.h). */
#ifndef FP8_KERNELS_ORDER_SORT_H
#define FP8_KERNELS_ORDER_SORT_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of `columns` elements, of which the first `kept` in order are wanted: values (or NULL) and positions, or the names
 * of these positions, as many as elements of x. */
typedef struct SortPlan {
  const void *x;
  DType dtype;
  void *values;
  int64_t *positions;
  const int64_t *names; /* or NULL */
  int64_t rows, columns, kept;
  bool descending;
  int64_t parts; /* of each row that the first are picked from, those of a part beside those of the next; or 1 */
  int row_bits; /* of the number of a long row, in front of the keys of rows that are sorted as one; -1: each by itself */
} SortPlan;

enum {
  SORT_ROW_MOST = 8192, /* columns that a thread block sorts at once */
  SORT_TOP_MOST = 1024  /* kept that it picks */
};

/* Rows of at most SORT_ROW_MOST columns. */
cudaError_t launch_sort_rows(Launch launch, const SortPlan *plan);
/* Rows of any length, of which at most SORT_TOP_MOST are kept; a part has at least as many. */
cudaError_t launch_sort_top(Launch launch, const SortPlan *plan);
/* Rows of any length, below 2^32 elements; scratch of that many bytes. Keys of 64 bits leave no room
 * for row_bits above 0. */
cudaError_t sort_long_bytes(const SortPlan *plan, size_t *bytes);
cudaError_t launch_sort_long(Launch launch, const SortPlan *plan, void *scratch, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
