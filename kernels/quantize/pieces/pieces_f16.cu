/* quantize_pieces.cuh for f16 elements. */
#include "quantize/pieces/quantize_pieces.cuh"

extern "C" cudaError_t launch_quantize_pieces_f16(Launch launch, const PiecesPlan *plan) {
  return plan->count == 0 ? cudaSuccess : run_pieces<Half>(launch, *plan);
}
