/* The launchers of quantization, with their descriptors (kernels.h). */
#ifndef FP8_KERNELS_QUANTIZE_H
#define FP8_KERNELS_QUANTIZE_H

#include "core/formats/grid.h"
#include "core/formats/hadamard.h"
#include "core/formats/map.h"
#include "core/formats/scale.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks this long or shorter are held in registers between finding absmax and encoding. */
enum { QUANTIZE_PIECE = 4096 };

typedef struct QuantizePlan {
  const MapTable *map; /* on the device; NULL for a hardware format */
  FormatGrid grid;     /* of a map, if it has one */
  PowersOfTwo powers;  /* of a map that is rounded to at random: launchers find their exponent in the grid, too */
  DType format;        /* e4m3 or e5m2 without a map */
  const void *x;       /* of a quantization */
  DType dtype;         /* of x: f32, f16 or bf16 */
  uint8_t *codes;      /* NULL if not wanted; the input of a dequantization */
  void *values;        /* what the codes decode to; NULL if not wanted */
  DType values_dtype;  /* f32, f16 or bf16 */
  float *scale;        /* one a block; NULL if not wanted; the input of a dequantization */
  int64_t count, blocksize;
  ScaleRule rule;
  const float *upper; /* with E4M3 scales: absmax of all, or one for `upper_each` blocks; else NULL */
  int64_t upper_each; /* 0 where there is one for all */
  bool divide, stochastic;
  RandomSource random;
  const float *known_scale;   /* one a block, instead of measuring; else NULL */
  const uint32_t *magnitudes; /* the bits of each block's largest |x|, instead of measuring; else NULL */
} QuantizePlan;

/* Any quantization; longer blocks than QUANTIZE_PIECE need known_scale or magnitudes. */
cudaError_t launch_quantize(Launch launch, const QuantizePlan *plan);
/* magnitudes[block], zero before, = the bits of the largest |x|, at least those of infinity if the block has an
 * infinity or a NaN. */
cudaError_t launch_block_magnitudes(Launch launch, const QuantizePlan *plan, uint32_t *magnitudes);
cudaError_t launch_dequantize(Launch launch, const QuantizePlan *plan);

/* Quantization in tiles (core/formats/quantizer.h), by thread blocks that take a patch of the matrix at a time. Of a
 * quantization that measures, without known_scale and magnitudes, patches are of whole tiles. */
typedef struct TilesPlan {
  QuantizePlan
      quantize; /* known_scale, magnitudes and scale have one element a tile; blocksize and divide are unused */
  int64_t rows, columns, tile_rows, tile_columns, tiles_across;
  int patch_rows, patch_columns; /* at most TILES_SIDE; the latter a multiple of `width` unless that is 1 */
  bool looks_up;                 /* whether nearest codes of a map are looked up; not with known scales */
  int width; /* elements in 16 bytes of x, if vectors of as many are aligned in x and values, and the
                                  * codes of one; else 1 */
} TilesPlan;

/* The sides of a patch, and the tiles that it may touch, counting TILES_SIDE in a row where tile_columns is 1. */
enum { TILES_SIDE = 128, TILES_MOST = 2048 };

cudaError_t launch_quantize_tiles(Launch launch, const TilesPlan *plan);
/* magnitudes[tile], zero before, as launch_block_magnitudes does it; patches may cut tiles. */
cudaError_t launch_tile_magnitudes(Launch launch, const TilesPlan *plan, uint32_t *magnitudes);
/* Patches mean nothing here, and `width` is about values and codes. */
cudaError_t launch_dequantize_tiles(Launch launch, const TilesPlan *plan);

/* The fast kernels below take x, codes and values at multiples of 16 bytes; but for pieces they round to nearest. */

/* What a quantization does where a group of threads holds a piece of x in registers: a block, or where scales are known
 * a part of one. Values, if wanted, have x's dtype; a map has a look-up. */
typedef struct PiecesPlan {
  QuantizePlan quantize;
  int64_t length;         /* of a piece: a whole number of 16-byte vectors; the last piece may be shorter by some */
  int64_t count;          /* pieces */
  int64_t pieces_a_block; /* 1 unless scales are known */
  int vectors;            /* a thread's at most: 4, or 2 (with `stays`); 8 with stochastic rounding, but for sums */
  bool stays;         /* whether thread blocks do, as a map's large look-up asks for; or with column sums, or divide */
  int group, threads; /* powers of two: for a piece, and in a thread block */
  int half;           /* of a map's look-up of entries below numbers */
  uint32_t key[RANDOM_ROUNDS][2]; /* Philox's, set by the launcher where there is such a look-up */
  const uint32_t *maxima;         /* launch_measure's, for one block that is the whole tensor; else NULL */
  int maxima_count;
  /* Column sums, not with quantize.divide: NULL, or room for grid / strips rows of `columns`, x's. Threads keep to their
   * columns: a thread block to one of `strips` strips of threads / group · length columns, or, if that is a multiple of
   * `columns`, to rows. Of pieces that are rows, `group` vectors side by side are some, or a part that divides one. */
  float *partials;
  int64_t columns;
  int strips, grid; /* grid: a multiple of strips; 0 without partials */
} PiecesPlan;
cudaError_t launch_quantize_pieces_f32(Launch launch, const PiecesPlan *plan);
cudaError_t launch_quantize_pieces_f16(Launch launch, const PiecesPlan *plan);
cudaError_t launch_quantize_pieces_bf16(Launch launch, const PiecesPlan *plan);

/* Codes of a hardware format and their transpose, or one of them, of a matrix whose sides are multiples of 16. The one
 * scale is known or follows from `maxima`. */
typedef struct TransposePlan {
  QuantizePlan quantize;
  uint8_t *transposed; /* NULL if not wanted */
  int64_t rows, columns;
  const uint32_t *maxima; /* instead of known_scale: launch_measure's, or the like */
  int maxima_count;
  const float *history; /* instead of known_scale, and of maxima where it has more than zeros; or NULL */
  int64_t history_length;
  const void *grad; /* of launch_quantize_activated, or NULL */
  uint32_t *found;  /* a word for each thread block: the largest magnitude of what it quantized; or NULL */
  float *partials;  /* column sums of every TRANSPOSE_ROWS rows: a row of `columns` each; or NULL */
} TransposePlan;
enum { TRANSPOSE_ROWS = 128 };
cudaError_t launch_quantize_transposed(Launch launch, const TransposePlan *plan);
/* The same of an activation function of x, or, if plan->grad, of the gradient of x from that of its result: what
 * launch_activation gives, without writing it. Column sums, which a gradient always comes with, are those of that. */
cudaError_t launch_quantize_activated(Launch launch, const TransposePlan *plan, UnaryOp op);
/* The same of the gradient of cross-entropy, from the logits and their statistics, for f16 and bf16; without column
 * sums. */
cudaError_t launch_quantize_logits(Launch launch, const TransposePlan *plan, const CrossEntropyPlan *rows);
/* Words of plan->found in launch_quantize_activated. */
int quantize_activated_grid(Launch launch, const TransposePlan *plan, UnaryOp op);

/* One scale for the whole tensor, which is a small matrix of whole 16-byte vectors a row; everything in one launch.
 * Codes and their transpose as above; values and maps as for pieces. */
typedef struct WholePlan {
  QuantizePlan quantize;
  uint8_t *transposed; /* NULL if not wanted; then quantize.format is a hardware format and rows are a multiple of 4 */
  int64_t rows, columns;
  int64_t scale_count; /* elements of quantize.scale, which all get the scale */
  uint32_t *maxima;    /* room for a word a thread block */
  void *sum;           /* column sums, NULL if not wanted */
  DType sum_dtype;
  float *partials; /* with `sum`: room for a row of `columns` for every 64 rows */
} WholePlan;
enum { WHOLE_PATCH_ROWS = 64 };
/* The thread blocks that a launch takes; 0 if the device may not hold them all at once. */
int quantize_whole_grid(const WholePlan *plan, int multiprocessors);
cudaError_t launch_quantize_whole(Launch launch, const WholePlan *plan);

/* The rows that a lane holds of a warp's patch (warp_patches.cuh). */
enum { PATCH_ROWS = 8 };

/* backend.h, hadamard. */
typedef struct HadamardPlan {
  HadamardRule rule;
  const void *x;
  void *out;
  DType dtype; /* of both: f32, f16 or bf16 */
  int64_t rows, columns;
} HadamardPlan;
cudaError_t launch_hadamard(Launch launch, const HadamardPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
