/* Products of float8 codes with scales. */
#include "core/formats/scale_grid.h"
#include "ops/support/product.h"

static bool check_codes(const Tensor *codes, const Tensor *scale, const char *name) {
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!dtype_is_float8(codes->dtype))
    return error_set("%s must be e4m3 or e5m2, got %s", name, dtype_name(codes->dtype));
  if (codes->rank != 2) return error_set("%s must have 2 dimensions, got %s", name, tensor_shape_text(codes, text));
  if (!same_device(codes, scale)) return false;
  int64_t count = tensor_count(scale), rows = codes->size[0], runs = scale_runs(codes->size[1]);
  bool fits =
      count == 1 || count == rows || scale_has_runs(scale, codes) || codes->size[1] == 0; /* it scales nothing then */
  if (scale->dtype != DTYPE_F32 || !fits) {
    return error_set(
        "the scale of %s must be f32 with 1 or %lld elements, or of shape (%lld, %lld) or (%lld, %lld), got %s "
        "of shape %s",
        name, (long long)rows, (long long)rows, (long long)runs, (long long)scale_runs(rows), (long long)runs,
        dtype_name(scale->dtype), tensor_shape_text(scale, text));
  }
  return true;
}

/* `scale`, contiguous unless it has runs, or a 0 for one without elements, which nothing is scaled by. */
static bool some_scale(Tensor *out, const Tensor *scale, const Tensor *codes) {
  if (tensor_count(scale) > 0) {
    if (!scale_has_runs(scale, codes)) return op_contiguous(out, scale);
    tensor_share(out, scale);
    return true;
  }
  int64_t one = 1;
  return tensor_create(out, DTYPE_F32, tensor_device(scale), 1, &one) && backend_for(scale)->fill(out, number_of(0));
}

bool op_scaled_matmul(Tensor *out, const ScaledProduct *product, DType dtype) {
  const Tensor *a = product->a, *b = product->b, *bias = product->bias;
  if (!same_device(a, b) || !check_codes(a, product->scale_a, "a") || !check_codes(b, product->scale_b, "b")) {
    return false;
  }
  if (a->size[1] != b->size[1]) return report_shapes(a, b, "the second sizes differ");
  if (!check_compute_float(dtype, "the result's dtype") || !check_bias(a, bias, b->size[0], dtype)) return false;
  enum { A, SCALE_A, B, SCALE_B, BIAS, COUNT };
  Tensor created = {0}, ready[COUNT] = {{0}};
  bool done = tensor_create(&created, dtype, tensor_device(a), 2, (int64_t[]){a->size[0], b->size[0]});
  done = done && op_contiguous(&ready[A], a) && some_scale(&ready[SCALE_A], product->scale_a, a) &&
         op_contiguous(&ready[B], b) && some_scale(&ready[SCALE_B], product->scale_b, b) &&
         (!bias || op_contiguous(&ready[BIAS], bias)) &&
         backend_for(a)->scaled_matmul(&created, &(ScaledProduct){.a = &ready[A],
                                                                  .scale_a = &ready[SCALE_A],
                                                                  .b = &ready[B],
                                                                  .scale_b = &ready[SCALE_B],
                                                                  .bias = bias ? &ready[BIAS] : NULL,
                                                                  .fast = product->fast});
  for (int i = 0; i < COUNT; i++) tensor_release(&ready[i]);
  return hand_over(out, &created, done);
}

bool op_scales_runs(const Tensor *x) {
  const Backend *backend = backend_for(x);
  return backend->scales_runs && backend->scales_runs(tensor_device(x).index);
}
