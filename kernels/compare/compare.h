/* The launchers of what measures what quantizing did to a tensor (backend.h, compare), with their descriptors (kernels.h). */
#ifndef FP8_KERNELS_COMPARE_H
#define FP8_KERNELS_COMPARE_H

#include "core/formats/quantizer.h"
#include "quantize/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ComparePlan {
  const void *x;
  DType dtype; /* f32, f16 or bf16 */
  int64_t count;
  const void *values; /* or NULL */
  DType values_dtype;
  bool codes;         /* values are float8, to be multiplied by their scales */
  const float *scale; /* one a block, or NULL */
  CompareRule rule;
  bool vectorize;       /* x and values are aligned to four elements */
  Comparison *partials; /* compare_grid */
} ComparePlan;
/* How many thread blocks take `count` elements. */
int compare_grid(int64_t count, int multiprocessors);
cudaError_t launch_compare(Launch launch, const ComparePlan *plan, Comparison *row);

/* backend.h, compare_quantized: `pieces` without codes, values, scales and sums; its grid is chosen here. A map has a
 * look-up and takes 0 to 0. */
typedef struct ComparePiecesPlan {
  PiecesPlan pieces;
  float low, high;      /* CompareRule */
  bool round;           /* values are rounded to x's dtype */
  Comparison *partials; /* for COMPARE_BLOCKS thread blocks a multiprocessor */
} ComparePiecesPlan;
enum { COMPARE_BLOCKS = 8, COMPARE_MOST_THREADS = 256, COMPARE_VECTORS = 4 };
cudaError_t launch_compare_pieces(Launch launch, const ComparePiecesPlan *plan, Comparison *row);
/* backend.h, compare, without values: of x in whole 16-byte vectors at a multiple of 16 bytes; partials as above. */
cudaError_t launch_compare_magnitudes(Launch launch, const ComparePlan *plan, Comparison *row);

/* row = the sum of the Comparisons that `count` thread blocks left, whose first_nonfinite is INT64_MAX if there is
 * none. */
cudaError_t launch_finish_compare(Launch launch, Comparison *row, const Comparison *partials, int count);

#ifdef __cplusplus
}
#endif

#endif
