/* From the largest magnitude of a block to the scale of its codes, and from an element to the number that is encoded. */
#ifndef FP8_CORE_SCALE_H
#define FP8_CORE_SCALE_H

#include <float.h>
#include <math.h>

#include "core/dtype.h"
#include "core/formats/float_formats.h"

/* How a block's scale follows from its absmax, from `largest`, the largest number of the format, and from 2^exponent, the
 * largest power of two in it: 448 and 2^8 for E4M3, 57344 and 2^15 for E5M2, 1 and 2^0 for a map.
 *
 * EXACT: absmax / largest, in float32.
 *
 * POWER_OF_TWO: absmax / largest, in float32, rounded up to the next power of two and to at least 2^-126, so that nothing
 * saturates; 0 for 0. At most 2^127, the largest there is: only with a map can absmax be larger, and saturates then.
 *
 * RCEIL: the same as an E8M0 number: at least 2^-127, for 0 too. NVIDIA's rule for MXFP8 (Transformer Engine,
 * `cvt.rp.satfinite.ue8m0x2.f32`): the smallest power of two that is not below absmax / largest.
 *
 * MX, CEIL, EVEN: powers of two as E8M0 numbers, 2^-127 to 2^127. MX is the shared scale of the OCP Microscaling Formats
 * specification, version 1.0, section 6.3: the largest power of two that is not above absmax, divided by 2^exponent. CEIL
 * takes the smallest one that is not below absmax; EVEN that of absmax rounded to the format's mantissa_bits, half a step
 * away from zero (0 bits for a map). What exceeds `largest` after that, saturates. These are torchao's ScaleCalculationMode
 * FLOOR, CEIL and EVEN, but for blocks with 2^-127, which come back at half their values there.
 *
 * E4M3: absmax times (1 / largest), or times what the scale above asks for (UpperScale), rounded to E4M3, saturating. A
 * small absmax gives a subnormal number or 0, and then 0 for the whole block.
 *
 * A block with a NaN or an infinity has the scale NaN. */
typedef enum ScaleRounding {
  SCALE_EXACT,
  SCALE_POWER_OF_TWO,
  SCALE_MX,
  SCALE_CEIL,
  SCALE_EVEN,
  SCALE_RCEIL,
  SCALE_E4M3
} ScaleRounding;

typedef struct ScaleRule {
  ScaleRounding rounding;
  float largest;
  int32_t exponent, mantissa_bits;
  float headroom; /* absmax is multiplied with this first; 1 with E4M3 */
  float constant; /* the scale of every block, whatever its absmax; 0 if that counts */
  float limit;    /* scaled numbers are cut off at this magnitude; infinite where a cast or a search does that */
  bool fitted;    /* scales are found in another way (fit.h), and elements may be larger than they cover */
} ScaleRule;

/* Of a hardware format; of a map where `format` is DTYPE_U8. */
PORTABLE ScaleRule scale_rule(DType format, ScaleRounding rounding) {
  ScaleRule rule;
  rule.rounding = rounding;
  rule.largest = format == DTYPE_E4M3 ? E4M3_LARGEST : format == DTYPE_E5M2 ? E5M2_LARGEST : 1.0f;
  rule.exponent = format == DTYPE_E4M3 ? 8 : format == DTYPE_E5M2 ? 15 : 0;
  rule.mantissa_bits = format == DTYPE_E4M3 ? 3 : format == DTYPE_E5M2 ? 2 : 0;
  rule.headroom = 1.0f;
  rule.constant = 0.0f;
  rule.limit = INFINITY;
  rule.fitted = false;
  return rule;
}

/* Whether scaled numbers may lie beyond the format's largest by more than rounding errors. */
PORTABLE bool scale_may_saturate(const ScaleRule *rule) {
  bool covers = rule->rounding == SCALE_EXACT || rule->rounding == SCALE_POWER_OF_TWO || rule->rounding == SCALE_RCEIL;
  return !covers || rule->fitted || rule->headroom < 1.0f || rule->constant > 0.0f;
}

/* 2^(field - 127), of a field that is brought into 0 … 254. */
PORTABLE float scale_of_exponent(int32_t field) {
  return float_from_bits(field <= 0 ? 0x00400000u : (uint32_t)(field < 254 ? field : 254) << 23);
}

/* `magnitude`: the bits of the block's largest |x|, at least those of infinity for a broken block. For E4M3 the scale
 * without one above it. */
PORTABLE float scale_by_rule(uint32_t magnitude, const ScaleRule *rule) {
  if (magnitude >= 0x7F800000u) return float_from_bits(0x7FC00000u);
  if (rule->constant > 0.0f) return rule->constant;
  if (rule->headroom != 1.0f) magnitude = float_to_bits(fminf(float_from_bits(magnitude) * rule->headroom, FLT_MAX));
  const int32_t field = (int32_t)(magnitude >> 23);
  switch (rule->rounding) {
  case SCALE_MX:
    return scale_of_exponent(field - rule->exponent);
  case SCALE_CEIL:
    return scale_of_exponent(field + ((magnitude & 0x007FFFFFu) != 0) - rule->exponent);
  case SCALE_EVEN:
    return scale_of_exponent((int32_t)((magnitude + (1u << (22 - rule->mantissa_bits))) >> 23) - rule->exponent);
  case SCALE_E4M3:
    return e4m3_to_float(e4m3_from_float(float_from_bits(magnitude) * (1.0f / rule->largest), true));
  case SCALE_EXACT:
  case SCALE_POWER_OF_TWO:
  case SCALE_RCEIL:
    break;
  }
  float scale = float_from_bits(magnitude);
  if (rule->largest != 1.0f) scale = scale / rule->largest;
  if (rule->rounding == SCALE_EXACT) return scale;
  uint32_t bits = float_to_bits(scale);
  if (rule->rounding == SCALE_RCEIL && bits <= 0x00400000u) return scale_of_exponent(0);
  return bits == 0 ? 0.0f : scale_of_exponent((int32_t)((bits + 0x007FFFFFu) >> 23));
}

PORTABLE float scale_of_magnitude(uint32_t magnitude, DType format, ScaleRounding rounding) {
  const ScaleRule rule = scale_rule(format, rounding);
  return scale_by_rule(magnitude, &rule);
}

/* The same for delayed scaling: from the largest element of `history`, or from `magnitude`, that of the tensor itself,
 * where the history is all 0 (or not finite, which nothing here makes it); NaN where the tensor is broken. */
PORTABLE float scale_of_history(uint32_t largest_of_history, uint32_t magnitude, const ScaleRule *rule) {
  bool own = largest_of_history == 0 || largest_of_history >= 0x7F800000u || magnitude >= 0x7F800000u;
  return scale_by_rule(own ? magnitude : largest_of_history, rule);
}

/* What a block's elements are scaled with. */
typedef struct BlockScaling {
  float scale, inverse;
  float limit; /* as in ScaleRule */
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
  scaling.limit = INFINITY;
  return scaling;
}

PORTABLE float scaled_element(float value, const BlockScaling *scaling) {
  float scaled = scaling->divide ? value / scaling->scale : value * scaling->inverse;
  scaled = scaled > scaling->limit ? scaling->limit : scaled;
  scaled = scaled < -scaling->limit ? -scaling->limit : scaled;
  if (scaling->empty) scaled = 0.0f;
  return scaled;
}

/* --- a scale above the blocks' --- */

/* What the absmax A of a whole tensor, or of a row, makes of the E4M3 scales S of its blocks: NVIDIA's NVFP4 (Transformer
 * Engine, where `largest` is 6). With most = 448 · largest:
 *
 *   encode = fl(fl(most / A) · fl(1 / largest)), where most / A is at most the largest float32
 *   decode = fl(1 / fl(most / A))
 *   S      = E4M3(absmax · encode)
 *   elements are multiplied with 1 / fl(S · decode), at most the largest float32
 *   codes stand for multiples of fl(fl(S · A) · fl(1 / most)); of fl(S · decode) where A is so small that most / A is cut
 *   off, or so large that S · A may overflow: there Transformer Engine's values are too small, or infinite
 *
 * Without it, encode = 1 / largest and decode = 1. */
typedef struct UpperScale {
  float encode, decode, absmax, inverse_most;
  bool direct; /* whether codes are decoded by way of A */
} UpperScale;

PORTABLE UpperScale no_upper_scale(const ScaleRule *rule) {
  UpperScale upper;
  upper.encode = 1.0f / rule->largest;
  upper.decode = 1.0f;
  upper.absmax = upper.inverse_most = 0.0f;
  upper.direct = false;
  return upper;
}

/* The same with most = largest_scale · largest. NaN makes all blocks NaN. */
PORTABLE UpperScale upper_scale_up_to(const ScaleRule *rule, float largest_scale, float absmax) {
  const float most = largest_scale * rule->largest;
  float factor = most / absmax;
  UpperScale upper;
  upper.direct = factor <= FLT_MAX && absmax <= FLT_MAX / E4M3_LARGEST;
  factor = factor > FLT_MAX ? FLT_MAX : factor;
  upper.encode = factor * (1.0f / rule->largest);
  upper.decode = 1.0f / factor;
  upper.absmax = absmax;
  upper.inverse_most = 1.0f / most;
  return upper;
}

PORTABLE UpperScale upper_scale(const ScaleRule *rule, float absmax) {
  return upper_scale_up_to(rule, E4M3_LARGEST, absmax);
}

/* S, of a block's absmax as in scale_by_rule. */
PORTABLE float scale_below(uint32_t magnitude, const UpperScale *upper) {
  if (magnitude >= 0x7F800000u || upper->encode != upper->encode) return float_from_bits(0x7FC00000u);
  return e4m3_to_float(e4m3_from_float(float_from_bits(magnitude) * upper->encode, true));
}

/* Where S is 0, elements still become codes, of 0. */
PORTABLE BlockScaling scaling_below(float stored, const UpperScale *upper) {
  const float product = stored * upper->decode, inverse = 1.0f / product;
  BlockScaling scaling;
  scaling.scale = upper->direct ? stored * upper->absmax * upper->inverse_most : product;
  scaling.broken = scaling.empty = stored != stored;
  scaling.inverse = inverse > FLT_MAX ? FLT_MAX : inverse;
  scaling.divide = false;
  scaling.limit = INFINITY;
  return scaling;
}

#endif
