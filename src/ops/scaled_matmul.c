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

static bool check_product(const ScaledProduct *product) {
  const Tensor *a = product->a, *b = product->b;
  if (!same_device(a, b) || !check_codes(a, product->scale_a, "a") || !check_codes(b, product->scale_b, "b")) {
    return false;
  }
  return a->size[1] == b->size[1] || report_shapes(a, b, "the second sizes differ");
}

enum { A, SCALE_A, B, SCALE_B, BIAS, COUNT };

/* Makes *ready of the product, its tensors, which `held` holds, contiguous. */
static bool make_ready(ScaledProduct *ready, Tensor held[COUNT], const ScaledProduct *product) {
  const Tensor *bias = product->bias;
  *ready = (ScaledProduct){.a = &held[A],
                           .scale_a = &held[SCALE_A],
                           .b = &held[B],
                           .scale_b = &held[SCALE_B],
                           .bias = bias ? &held[BIAS] : NULL,
                           .fast = product->fast};
  return op_contiguous(&held[A], product->a) && some_scale(&held[SCALE_A], product->scale_a, product->a) &&
         op_contiguous(&held[B], product->b) && some_scale(&held[SCALE_B], product->scale_b, product->b) &&
         (!bias || op_contiguous(&held[BIAS], bias));
}

static void release_all(Tensor held[COUNT]) {
  for (int i = 0; i < COUNT; i++) tensor_release(&held[i]);
}

bool op_scaled_matmul(Tensor *out, const ScaledProduct *product, DType dtype) {
  const Tensor *a = product->a, *b = product->b;
  if (!check_product(product) || !check_compute_float(dtype, "the result's dtype") ||
      !check_bias(a, product->bias, b->size[0], dtype)) {
    return false;
  }
  Tensor created = {0}, held[COUNT] = {{0}};
  ScaledProduct ready;
  bool done = tensor_create(&created, dtype, tensor_device(a), 2, (int64_t[]){a->size[0], b->size[0]}) &&
              make_ready(&ready, held, product) && backend_for(a)->scaled_matmul(&created, &ready);
  release_all(held);
  return hand_over(out, &created, done);
}

/* In two steps. */
static bool multiply_then_add(Tensor *out, const ScaledProduct *product) {
  Tensor result = {0};
  bool done = op_scaled_matmul(&result, product, DTYPE_F32) &&
              op_binary_in_place(BINARY_ADD, out, (Operand){.tensor = &result});
  tensor_release(&result);
  return done;
}

bool op_scaled_matmul_add(Tensor *out, const ScaledProduct *product) {
  const Tensor *a = product->a, *b = product->b;
  const Backend *backend = backend_for(out);
  char text[TENSOR_SHAPE_TEXT_MAX];
  if (!same_device(out, a) || !check_product(product)) return false;
  bool fits = out->rank == 2 && out->size[0] == a->size[0] && out->size[1] == b->size[0];
  if (!fits || out->dtype != DTYPE_F32 || !tensor_is_contiguous(out)) {
    return error_set("the sum must be contiguous f32 of shape (%lld, %lld), got %s %s", (long long)a->size[0],
                     (long long)b->size[0], dtype_name(out->dtype), tensor_shape_text(out, text));
  }
  const Tensor *parts[] = {a, b, product->scale_a, product->scale_b};
  for (int i = 0; i < 4; i++) {
    if (parts[i]->storage == out->storage) return error_set("the sum must share no memory with the factors");
  }
  if (!backend->scaled_matmul_add) return multiply_then_add(out, product);
  Tensor held[COUNT] = {{0}};
  ScaledProduct ready;
  bool done = make_ready(&ready, held, product) && backend->scaled_matmul_add(out, &ready);
  release_all(held);
  if (done) tensor_changed(out);
  return done;
}

bool op_scales_runs(const Tensor *x) {
  const Backend *backend = backend_for(x);
  return backend->scales_runs && backend->scales_runs(tensor_device(x).index);
}
