/* From the largest magnitude of a block to the scale of its codes, and from an element to the number that is encoded. */
#ifndef FP8_CORE_SCALE_H
#define FP8_CORE_SCALE_H

#include <math.h>

#include "core/dtype.h"
#include "core/formats/float_formats.h"

/* How a block's scale follows from its absmax and from `largest`, the largest number of the format: 448 for E4M3, 57344
 * for E5M2, 1 for a map.
 *
 * EXACT: absmax / largest, in float32.
 *
 * POWER_OF_TWO: absmax / largest, in float32, rounded up to the next power of two and to at least 2^-126, so that nothing
 * saturates; 0 for 0. At most 2^127, the largest there is: only with a map can absmax be larger, and saturates then.
 *
 * MX: the shared scale of the OCP Microscaling Formats specification, version 1.0, section 6.3: the largest power of two
 * that is not above absmax, divided by the largest power of two of the format (2^8 for E4M3, 2^15 for E5M2), as the
 * exponent of an E8M0 number, at least -127. What exceeds `largest` after that, saturates. 2^-127 for 0. Hardware
 * formats only.
 *
 * A block with a NaN or an infinity has the scale NaN. */
typedef enum ScaleRounding { SCALE_EXACT, SCALE_POWER_OF_TWO, SCALE_MX } ScaleRounding;

/* `magnitude`: the bits of the block's largest |x|, at least those of infinity for a broken block. `format` is DTYPE_U8
 * for a map. */
PORTABLE float scale_of_magnitude(uint32_t magnitude, DType format, ScaleRounding rounding) {
  if (magnitude >= 0x7F800000u) return float_from_bits(0x7FC00000u);
  if (rounding == SCALE_MX) {
    uint32_t shift = format == DTYPE_E4M3 ? 8 : 15, exponent = magnitude >> 23;
    return float_from_bits(exponent > shift ? (exponent - shift) << 23 : 0x00400000u);
  }
  float scale = float_from_bits(magnitude);
  if (format == DTYPE_E4M3) scale = scale / E4M3_LARGEST;
  if (format == DTYPE_E5M2) scale = scale / E5M2_LARGEST;
  if (rounding == SCALE_EXACT) return scale;
  uint32_t rounded = (float_to_bits(scale) + 0x007FFFFFu) & 0x7F800000u;
  return float_from_bits(rounded > 0x7F000000u ? 0x7F000000u : rounded);
}

/* The same for delayed scaling: from the largest element of `history`, or from `magnitude`, that of the tensor itself,
 * where the history is all 0 (or not finite, which nothing here makes it); NaN where the tensor is broken. */
PORTABLE float scale_of_history(uint32_t largest_of_history, uint32_t magnitude, DType format, ScaleRounding rounding) {
  bool own = largest_of_history == 0 || largest_of_history >= 0x7F800000u || magnitude >= 0x7F800000u;
  return scale_of_magnitude(own ? magnitude : largest_of_history, format, rounding);
}

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
