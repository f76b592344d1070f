/* What products of every kind check. */
#ifndef FP8_OPS_PRODUCT_H
#define FP8_OPS_PRODUCT_H

#include "ops/support/support.h"

/* An error about two shapes; false. */
bool report_shapes(const Tensor *a, const Tensor *b, const char *why);

/* Fails unless the bias, if there is one, is on a's device, has so many elements and the result's dtype. */
bool check_bias(const Tensor *a, const Tensor *bias, int64_t columns, DType dtype);

#endif
