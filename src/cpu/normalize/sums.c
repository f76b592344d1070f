#include "cpu/normalize/normalize.h"

VECTORIZE void cpu_add_gradient_sums(GradientSums *sums, const float *restrict grad, const float *restrict normalized,
                                     int n) {
  enum { LANES = 32 }; /* so that this is a loop over vectors */
  double of_grad[LANES] = {0}, of_product[LANES] = {0};
  int i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (int j = 0; j < LANES; j++) {
      of_grad[j] += (double)grad[i + j];
      of_product[j] += (double)(grad[i + j] * normalized[i + j]);
    }
  }
  for (; i < n; i++) {
    of_grad[0] += (double)grad[i];
    of_product[0] += (double)(grad[i] * normalized[i]);
  }
  for (int width = LANES / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; j++) {
      of_grad[j] += of_grad[j + width];
      of_product[j] += of_product[j + width];
    }
  }
  sums->grad += of_grad[0];
  sums->product += of_product[0];
}
