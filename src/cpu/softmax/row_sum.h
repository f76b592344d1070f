/* What softmax and cross-entropy need to know of a row of logits. */
#ifndef FP8_CPU_SOFTMAX_ROW_SUM_H
#define FP8_CPU_SOFTMAX_ROW_SUM_H

#include <stdint.h>

#include "core/dtype.h"

/* Elements a transcendental function costs about as much time as. */
enum { EXP_WORK = 4 };

/* The largest element, and the sum of exp(x - largest); a NaN in the row makes both, or the sum, NaN. */
typedef struct RowSum {
  float largest;
  float sum;
} RowSum;

/* Of elements first … first + length - 1, each times `scale`; the exponentials go to `kept` unless that is NULL. As many
 * elements from `next` on are fetched meanwhile, unless that is 0. */
RowSum row_sum(DType dtype, const void *data, int64_t first, int64_t length, float scale, float *kept, int64_t next);

/* out[i] = exp(x[i] · scale - shift), where shift is the largest x[i] · scale */
void exp_minus(float *restrict out, const float *restrict x, float scale, float shift, int n);

#endif
