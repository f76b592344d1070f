/* How tensors become codes, and what is told of it afterwards. */
#ifndef FP8_CORE_QUANTIZER_H
#define FP8_CORE_QUANTIZER_H

#include "core/formats/fit.h"
#include "core/formats/grid.h"
#include "core/formats/hadamard.h"
#include "core/formats/map.h"
#include "core/formats/scale.h"
#include "core/random.h"
#include "core/tensor.h"

/* How a tensor becomes codes. The tensor's elements in row-major order are cut into blocks of `blocksize`, the last
 * maybe short; or, where tile_rows is not 0, the tensor is cut as a matrix (its last dimension, and all others as one)
 * into tiles, those at the right and lower edge maybe short, in row-major order. Each block or tile has its absmax and
 * from that its scale: core/formats/scale.h. One with a NaN or an infinity has the scale NaN; so have all below an upper
 * scale that is NaN.
 *
 * With a map: s = x / scale if `divide`, or if 1 / scale overflows to infinity, else x · (1 / scale); s = 0 if scale is
 * 0 or NaN, and is cut off at the rule's limit; the code is map_nearest of s, or map_stochastic. Decoding: value[code] ·
 * scale.
 *
 * With a hardware format (map NULL): s as above with divide false; the code is s cast to `format`, saturating, to
 * nearest even or float8 stochastic; NaN where the scale is NaN. Decoding: float(code) · scale.
 *
 * Stochastic rounding of element i takes the bits that core/random.h gives it. */
typedef struct Quantizer {
  Map *map;
  FormatGrid grid;   /* of a map's values, if they have one: a faster way to the same codes */
  DType format;      /* DTYPE_E4M3 or DTYPE_E5M2 where map is NULL; DTYPE_U8 otherwise: the dtype of codes */
  int64_t blocksize; /* at least 1; means nothing for tiles */
  int64_t tile_rows, tile_columns; /* at least 1; 0 for blocks */
  ScaleRule rule;
  const Tensor *upper; /* with E4M3 scales: absmax of all of x, or of each row, f32; else NULL */
  int64_t upper_each;  /* blocks that have one of these together */
  bool divide;
  bool stochastic;
  RandomSource random;
  const Tensor
      *live_random; /* NULL, or f32 with four words, of a seed and an offset: `random` counts from there, and so do
                              * signs of transforms that are drawn */
  const Tensor *known_scale; /* the scales of an earlier quantization of x, f32, to be used again; else NULL */
} Quantizer;

/* What a quantization of x writes; NULL for what is not wanted. x counts as a matrix (rows, columns): its last
 * dimension and all others. */
typedef struct QuantizeOutputs {
  Tensor *codes;      /* of x's shape, dtype Quantizer.format */
  Tensor *transposed; /* the codes again as (columns, rows); hardware formats only */
  Tensor *values;     /* what the codes decode to, rounded to any of f32, f16 and bf16 */
  Tensor *scale;      /* f32, one a block or tile; of a single block, any number of elements, which all get its scale */
  Tensor *column_sum; /* (columns), the sums over rows of x itself, as `reduce` computes them; f32, f16 or bf16 */
} QuantizeOutputs;

/* What is above scales in E4M3 (core/formats/scale.h, UpperScale). */
typedef enum UpperLevel { UPPER_NONE, UPPER_TENSOR, UPPER_ROW } UpperLevel;

/* One of several quantizations of a matrix in a go. */
typedef struct QuantizeWay {
  QuantizeOutputs outputs; /* codes, values, scale */
  Quantizer quantizer;     /* without `upper`, which follows from the level, and without known scales */
  UpperLevel upper;
  FitRule fit;           /* what scales are fitted to, if that is wanted */
  HadamardRule hadamard; /* what is quantized is x transformed, rounded to its dtype; length 0: x itself */
} QuantizeWay;

enum { QUANTIZE_WAYS = 2 }; /* at most */

/* What became of a tensor x where it was quantized: words of 8 bytes, as which a row of an i64 tensor holds it. An x
 * that is NaN or infinite counts in the first four fields only. Sums are accumulated in double. */
typedef struct Comparison {
  int64_t count, zeros, nonfinite;
  int64_t first_nonfinite; /* the first one's position, row-major from 0; -1 if there is none */
  int64_t underflow;       /* x ≠ 0 within the format's range that became 0 */
  int64_t saturated;       /* x beyond the format's range by more than half of the last step there */
  double sum, square_sum;  /* Σ x, Σ x² */
  double error_square_sum; /* Σ (x - value)²; NaN where a finite x has become NaN, as its whole block does then */
  double absmax;
  double relative_error; /* the largest |x - value| / |x| of any x that has not become 0; NaN as above */
} Comparison;
enum { COMPARISON_WORDS = 11 };
#ifdef __cplusplus
static_assert(sizeof(Comparison) == COMPARISON_WORDS * sizeof(int64_t), "a row of an i64 tensor holds it");
#else
_Static_assert(sizeof(Comparison) == COMPARISON_WORDS * sizeof(int64_t), "a row of an i64 tensor holds it");
#endif

/* The blocks or tiles that scales are for, as in Quantizer, of a matrix of so many columns; and the range of x / scale
 * beyond which it is saturated: from half a step below the format's lowest value to half a step above its largest. */
typedef struct CompareRule {
  int64_t blocksize, tile_rows, tile_columns, columns;
  float low, high;
} CompareRule;

#endif
