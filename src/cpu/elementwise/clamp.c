/* min(max(x, low), high) */
#include "cpu/cpu.h"
#include "cpu/elementwise/elementwise.h"
#include "cpu/vectorize.h"

VECTORIZE static void clamp_floats(int op, float *restrict out, const float *const *in, int n) {
  (void)op;
  const float *restrict x = in[0], low = in[1][0], high = in[2][0];
  for (int i = 0; i < n; i++) {
    float value = x[i] < low ? low : x[i];
    out[i] = value > high ? high : value;
  }
}

VECTORIZE static void clamp_integers(int op, int64_t *restrict out, const int64_t *const *in, int n) {
  (void)op;
  const int64_t *restrict x = in[0], low = in[1][0], high = in[2][0];
  for (int i = 0; i < n; i++) {
    int64_t value = x[i] < low ? low : x[i];
    out[i] = value > high ? high : value;
  }
}

/* For integers the limits saturate like every cast. */
bool cpu_clamp(Tensor *out, const Tensor *x, Number low, Number high) {
  Operand in[3] = {{.tensor = x}, {.number = low}, {.number = high}};
  bool integer = dtype_is_integer(out->dtype) && dtype_is_integer(x->dtype);
  return elementwise(out, in, 3, 0,
                     (ElementwiseKernels){.floats = clamp_floats, .integers = integer ? clamp_integers : NULL});
}
