/* The launchers of quantization in small blocks, in one way or in two (ways.cu), with their descriptors. */
#ifndef FP8_KERNELS_QUANTIZE_WAYS_H
#define FP8_KERNELS_QUANTIZE_WAYS_H

#include "quantize/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WAYS_MOST = 2 };

/* quantize: codes, values and scale of all of x, which has `grid` for hardware formats, too, and the format's largest number
 * as its limit; without divide, known_scale, magnitudes and rows' upper scales. What is quantized is x transformed, if
 * hadamard.length is not 0.
 *
 * Tiles have one row, and columns of whole vectors of 16 bytes, a power of two of them; or a multiple of PATCH_ROWS rows, a
 * power of two, and either such columns or one. */
typedef struct WayPlan {
  QuantizePlan quantize;
  uint32_t sign; /* the bit that a number keeps which is rounded to 0: that of a hardware format */
  HadamardRule hadamard;
  int tile_rows, tile_columns;
  int64_t tiles_across;
  uint32_t *maxima; /* with scales below one for the whole tensor: words whose maximum is its largest magnitude */
  int maxima_count;
  const uint32_t *live_random; /* NULL, or a seed and an offset, in two words each, to which quantize.random counts */
  bool measures;               /* whether launch_measure_ways fills them */
} WayPlan;

/* x begins at a multiple of 16 bytes, and so does each of its rows. A warp takes a patch of PATCH_ROWS · `down` rows and 32 /
 * `down` vectors of columns, of whole tiles and whole groups of transforms. */
typedef struct WaysPlan {
  const void *x;
  DType dtype;
  int64_t rows, columns;
  int down; /* a power of two; 0 where a warp has too few lanes, which launch_quantize_ways takes if it
             * quantizes_in_patches */
  int count;
  WayPlan way[WAYS_MOST];
  int groups;      /* of launch_measure_ways */
  float *partials; /* room for `groups` rows of columns' sums, which that leaves; or NULL */
} WaysPlan;

/* Sets plan->groups. The words that launch_measure_ways leaves for each way. */
int measure_ways_shape(Launch launch, WaysPlan *plan);
cudaError_t launch_measure_ways(Launch launch, const WaysPlan *plan);
/* By the outputs, tiles and transforms of its ways, and x's dtype and sides. */
bool quantizes_in_patches(const WaysPlan *plan);
cudaError_t launch_quantize_ways(Launch launch, const WaysPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
