/* Pooling: the largest element of each window, or the mean. */
#include "ops/patches/window.h"

bool op_pool(Tensor *out, Tensor *index, const Tensor *x, PoolRule rule, bool ceil) {
  if (!check_images(x) || !check_compute_float(x->dtype, "dtype") || !fit_window(&rule.window, &x->size[2], ceil))
    return false;
  const int64_t size[] = {x->size[0], x->size[1], rule.window.y.output, rule.window.x.output};
  Tensor created = {0}, positions = {0}, input = {0};
  Device device = tensor_device(x);
  bool done = tensor_create(&created, x->dtype, device, 4, size) &&
              (!index || tensor_create(&positions, DTYPE_I64, device, 4, size)) && op_contiguous(&input, x) &&
              backend_for(x)->pool(&created, index ? &positions : NULL, &input, &rule);
  tensor_release(&input);
  if (index) hand_over(index, &positions, done);
  return hand_over(out, &created, done);
}

bool op_pool_backward(Tensor *out, const Tensor *dy, const Tensor *index, const int64_t *size, PoolRule rule,
                      bool ceil) {
  if (!check_images(dy) || !check_compute_float(dy->dtype, "the gradient") ||
      !fit_window(&rule.window, &size[2], ceil)) {
    return false;
  }
  bool fits = dy->size[0] == size[0] && dy->size[1] == size[1] && dy->size[2] == rule.window.y.output &&
              dy->size[3] == rule.window.x.output;
  if (!fits) return error_set("the gradient does not have the shape of the result");
  if (rule.largest && !(index && index->dtype == DTYPE_I64 && tensor_same_shape(index, dy))) {
    return error_set("i64 positions of the gradient's shape are needed");
  }
  if (rule.largest && !same_device(dy, index)) return false;
  Tensor created = {0}, grad = {0}, positions = {0};
  bool done = tensor_create(&created, dy->dtype, tensor_device(dy), 4, size) && op_contiguous(&grad, dy) &&
              (!rule.largest || op_contiguous(&positions, index)) &&
              backend_for(dy)->pool_backward(&created, &grad, rule.largest ? &positions : NULL, &rule);
  tensor_release(&grad);
  tensor_release(&positions);
  return hand_over(out, &created, done);
}
