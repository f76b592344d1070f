/* Quantization in tiles: codes, values and scales; cuda_quantize does the rest. */
#ifndef FP8_CUDA_QUANTIZE_TILES_H
#define FP8_CUDA_QUANTIZE_TILES_H

#include "cuda/quantize/plan.h"

/* `plan` has everything but blocksize, of a quantizer with tiles and a matrix of `columns`. */
bool cuda_quantize_tiles(const CudaDevice *device, const QuantizePlan *plan, const Quantizer *quantizer,
                         int64_t columns);
bool cuda_dequantize_tiles(const CudaDevice *device, const QuantizePlan *plan, const Quantizer *quantizer,
                           int64_t columns);

#endif
