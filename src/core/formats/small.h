/* Formats of at most 8 bits that have names: a map of their values, at the positions MAP_ZERO plus or minus a code without
 * its sign, so that a tie goes to the even code as IEEE 754 has it. Positions beyond the largest value hold it, too. */
#ifndef FP8_CORE_SMALL_H
#define FP8_CORE_SMALL_H

#include "core/formats/grid.h"
#include "core/formats/map.h"

enum { MAP_ZERO = 128 };

typedef struct SmallFormat {
  const char *name;
  int bits;
  int below, above;  /* values on either side of 0 */
  int exponent;      /* of the largest power of two */
  int mantissa_bits; /* of a number, not counting the leading one */
  float largest, smallest_normal, smallest;
  FormatGrid grid;
} SmallFormat;

enum { SMALL_FORMATS = 6 };

/* e2m1, e2m3, e3m2 (OCP Microscaling Formats specification, version 1.0, section 5.3), int8, int4 (both without their lowest
 * value) and nf4 (Dettmers et al., "QLoRA", 2023). */
extern const SmallFormat small_formats[SMALL_FORMATS];

/* NULL if there is none of this name. */
const SmallFormat *small_format_called(const char *name);

void small_format_values(const SmallFormat *format, float value[MAP_SIZE]);

/* As map_compile. */
Map *small_format_map(const SmallFormat *format);

#endif
