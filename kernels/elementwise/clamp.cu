/* Clamping. */
#include "elementwise/elementwise.cuh"

namespace {

/* Inputs: x, low, high. Comparisons with NaN are false, so NaN stays. */
struct Clamp {
  static constexpr int inputs = 3;

  template <int WIDTH> __device__ void operator()(const float (&in)[3][WIDTH], float (&out)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) {
      const float raised = in[0][k] < in[1][k] ? in[1][k] : in[0][k];
      out[k] = raised > in[2][k] ? in[2][k] : raised;
    }
  }

  __device__ int64_t integer(const int64_t (&in)[3]) const {
    const int64_t raised = in[0] < in[1] ? in[1] : in[0];
    return raised > in[2] ? in[2] : raised;
  }
};

} // namespace

extern "C" cudaError_t launch_clamp(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Clamp{});
}
