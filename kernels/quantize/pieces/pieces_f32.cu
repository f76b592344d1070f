/* quantize_pieces.cuh for f32 elements. */
#include "quantize/pieces/quantize_pieces.cuh"

extern "C" cudaError_t launch_quantize_pieces_f32(Launch launch, const PiecesPlan *plan) {
  return plan->count == 0 ? cudaSuccess : run_pieces<float>(launch, *plan);
}
