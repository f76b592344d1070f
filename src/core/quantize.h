/* From an element to the number that is encoded, by the scale of its block: Quantizer in backend.h. */
#ifndef FP8_CORE_QUANTIZE_H
#define FP8_CORE_QUANTIZE_H

#include <math.h>

#include "core/portable.h"

/* What a block's elements are scaled with. */
typedef struct BlockScaling {
  float scale, inverse;
  bool divide; /* by the scale, instead of multiplying by its inverse */
  bool empty;  /* the scale is 0 or NaN: elements count as 0 */
  bool broken; /* it is NaN */
} BlockScaling;

PORTABLE bool scale_is_empty(float scale) { return scale == 0.0f || scale != scale; }

/* `inverse` is 1 / scale. Where that overflows, elements are divided in any case. */
PORTABLE BlockScaling block_scaling(float scale, float inverse, bool divide) {
  BlockScaling scaling;
  scaling.scale = scale;
  scaling.broken = scale != scale;
  scaling.empty = scale_is_empty(scale);
  scaling.inverse = inverse;
  scaling.divide = divide || isinf(inverse);
  return scaling;
}

PORTABLE float scaled_element(float value, const BlockScaling *scaling) {
  float scaled = scaling->divide ? value / scaling->scale : value * scaling->inverse;
  if (scaling->empty) scaled = 0.0f;
  return scaled;
}

#endif
