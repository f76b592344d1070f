/* A choice between two inputs. */
#include "elementwise/elementwise.cuh"

namespace {

/* Inputs: condition, a, b. */
struct Where {
  static constexpr int inputs = 3;

  template <int WIDTH> __device__ void operator()(const float (&in)[3][WIDTH], float (&out)[WIDTH]) const {
#pragma unroll
    for (int k = 0; k < WIDTH; k++) out[k] = in[0][k] != 0.0f ? in[1][k] : in[2][k];
  }

  __device__ int64_t integer(const int64_t (&in)[3]) const { return in[0] != 0 ? in[1] : in[2]; }
};

} // namespace

extern "C" cudaError_t launch_where(Launch launch, const ElementwisePlan *plan) {
  return launch_elementwise(launch, plan, Where{});
}
