/* The launcher of quantization band by band, with its descriptor (quantize.h). */
#ifndef FP8_KERNELS_QUANTIZE_BANDS_H
#define FP8_KERNELS_QUANTIZE_BANDS_H

#include "quantize/quantize.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Codes of a hardware format of the pieces of a matrix, which are blocks, and the same transposed. Groups are of at most
 * BANDS_THREADS threads, a band of BANDS_ROWS rows is a whole number of thread blocks' pieces, and both sides are multiples of
 * 16. */
typedef struct BandsPlan {
  PiecesPlan pieces; /* threads, strips, grid and partials are unused */
  uint8_t *transposed;
  uint32_t *progress; /* two words for each band, 0 before and after; one launch at a time may use them */
  int64_t rows, columns;
} BandsPlan;
enum { BANDS_ROWS = 128, BANDS_THREADS = 256 };
cudaError_t launch_quantize_bands(Launch launch, const BandsPlan *plan);

#ifdef __cplusplus
}
#endif

#endif
