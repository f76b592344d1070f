/* Products of float8 codes with scales: on FP8 tensor cores where the device and the shape allow it, else in bf16,
 * which holds every float8 value exactly. */
#include "cuda/matmul/product.h"

/* A ScaledProduct (core/operations.h) with its sizes. */
typedef struct CodesProduct {
  int64_t m, n, k;
  const Tensor *a, *b, *scale_a, *scale_b;
  Tensor *out;
  const void *bias; /* or NULL */
  bool fast;
} CodesProduct;

static bool is_scalar(const Tensor *scale) { return tensor_count(scale) == 1; }

/* Without scales; b is transposed as it lies. */
static CublasProduct product_of(const CodesProduct *scaled, const void *a, const void *b, void *out, DType out_dtype) {
  return (CublasProduct){
      .m = scaled->m,
      .n = scaled->n,
      .k = scaled->k,
      .batch = 1,
      .a = {.data = a, .dtype = scaled->a->dtype, .leading = scaled->k},
      .b = {.data = b, .dtype = scaled->b->dtype, .transposed = true, .leading = scaled->k},
      .out = out,
      .out_dtype = out_dtype,
  };
}

/* Scales, biases and rounds the sums of products of codes; NULL stands for zeros. */
static bool finish(CudaDevice *device, const CodesProduct *scaled, const float *sums) {
  FinishPlan plan = {
      .out = tensor_data(scaled->out),
      .dtype = scaled->out->dtype,
      .product = sums,
      .rows = scaled->m,
      .columns = scaled->n,
      .bias = scaled->bias,
  };
  if (sums) {
    plan.scale_a = tensor_data(scaled->scale_a);
    plan.scale_b = tensor_data(scaled->scale_b);
    plan.row_step = !is_scalar(scaled->scale_a);
    plan.column_step = !is_scalar(scaled->scale_b);
  }
  return cuda_launched(device, launch_finish_product(device->launch, &plan), "scale kernel");
}

/* FP8 tensor cores of compute capability 9.0 keep about 14 bits of a running sum (relative errors near 7e-5), enough
 * for a 16-bit result only. */
static bool fits_tensor_cores(CudaDevice *device, const CodesProduct *scaled) {
  if (scaled->out->dtype == DTYPE_F32) return false;
  if (device->capability < 89 || scaled->m % 16 != 0 || scaled->n % 16 != 0 || scaled->k % 16 != 0) return false;
  if (scaled->a->dtype == DTYPE_E5M2 && scaled->b->dtype == DTYPE_E5M2) return false;
  return is_aligned(tensor_data(scaled->a), 16) && is_aligned(tensor_data(scaled->b), 16) &&
         is_aligned(tensor_data(scaled->out), 16) && is_aligned(scaled->bias, 16);
}

/* cuBLASLt takes vectors on both sides or on none: repeats a lone scalar in `filled`. */
static bool fill_scale(const CudaDevice *device, const Tensor *scale, int64_t count, Tensor *filled,
                       const float **vector) {
  *vector = tensor_data(scale);
  if (!is_scalar(scale)) return true;
  if (!cuda_scratch(filled, device, count * (int64_t)sizeof(float))) return false;
  *vector = tensor_data(filled);
  return cuda_launched(device, launch_expand_scale(device->launch, tensor_data(filled), tensor_data(scale), count),
                       "scale kernel");
}

/* All in one product: cuBLASLt scales, biases and rounds. */
static ProductStatus run_scaled(CudaDevice *device, const CodesProduct *scaled) {
  CublasProduct product =
      product_of(scaled, tensor_data(scaled->a), tensor_data(scaled->b), tensor_data(scaled->out), scaled->out->dtype);
  product.bias = scaled->bias;
  product.fast = scaled->fast;
  product.a.scale = tensor_data(scaled->scale_a);
  product.b.scale = tensor_data(scaled->scale_b);
  product.scale_vectors = !is_scalar(scaled->scale_a) || !is_scalar(scaled->scale_b);
  Tensor filled_a = {0}, filled_b = {0};
  ProductStatus status = PRODUCT_FAILED;
  if (!product.scale_vectors || (fill_scale(device, scaled->scale_a, scaled->m, &filled_a, &product.a.scale) &&
                                 fill_scale(device, scaled->scale_b, scaled->n, &filled_b, &product.b.scale))) {
    bool aligned = !product.scale_vectors || (is_aligned(product.a.scale, 16) && is_aligned(product.b.scale, 16));
    status = aligned ? product_run(device, &product) : PRODUCT_UNSUPPORTED;
  }
  tensor_release(&filled_a);
  tensor_release(&filled_b);
  return status;
}

/* The sums of `product` in float32, then scaled, biased and rounded by a kernel. */
static ProductStatus run_sums(CudaDevice *device, const CodesProduct *scaled, CublasProduct product) {
  Tensor sums = {0};
  if (product.out_dtype != DTYPE_F32) {
    if (!cuda_scratch(&sums, device, scaled->m * scaled->n * (int64_t)sizeof(float))) return PRODUCT_FAILED;
    product.out = tensor_data(&sums);
    product.out_dtype = DTYPE_F32;
  }
  ProductStatus status = product_run(device, &product);
  if (status == PRODUCT_DONE && !finish(device, scaled, product.out)) status = PRODUCT_FAILED;
  tensor_release(&sums);
  return status;
}

static ProductStatus run_on_tensor_cores(CudaDevice *device, const CodesProduct *scaled) {
  ProductStatus status = run_scaled(device, scaled);
  if (status != PRODUCT_UNSUPPORTED) return status;
  return run_sums(
      device, scaled,
      product_of(scaled, tensor_data(scaled->a), tensor_data(scaled->b), tensor_data(scaled->out), scaled->out->dtype));
}

static bool widen(const CudaDevice *device, const Tensor *codes, Tensor *wide) {
  int64_t count = tensor_count(codes);
  return cuda_scratch(wide, device, count * (int64_t)sizeof(uint16_t)) &&
         cuda_launched(device,
                       launch_widen_codes(device->launch, tensor_data(wide), tensor_data(codes), codes->dtype, count),
                       "widen kernel");
}

static bool run_in_bf16(CudaDevice *device, const CodesProduct *scaled) {
  Tensor wide_a = {0}, wide_b = {0};
  ProductStatus status = PRODUCT_FAILED;
  if (widen(device, scaled->a, &wide_a) && widen(device, scaled->b, &wide_b)) {
    CublasProduct product =
        product_of(scaled, tensor_data(&wide_a), tensor_data(&wide_b), tensor_data(scaled->out), scaled->out->dtype);
    product.a.dtype = product.b.dtype = DTYPE_BF16;
    status = run_sums(device, scaled, product);
  }
  tensor_release(&wide_a);
  tensor_release(&wide_b);
  if (status == PRODUCT_UNSUPPORTED) {
    return error_set("cublasLtMatmul: no algorithm for a product of (%lld, %lld) by (%lld, %lld)", (long long)scaled->m,
                     (long long)scaled->k, (long long)scaled->k, (long long)scaled->n);
  }
  return status == PRODUCT_DONE;
}

bool cuda_scaled_matmul(Tensor *out, const ScaledProduct *product) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  CodesProduct scaled = {
      .m = product->a->size[0],
      .n = product->b->size[0],
      .k = product->a->size[1],
      .a = product->a,
      .b = product->b,
      .scale_a = product->scale_a,
      .scale_b = product->scale_b,
      .out = out,
      .bias = product->bias ? tensor_data(product->bias) : NULL,
      .fast = product->fast,
  };
  if (scaled.k == 0) return finish(device, &scaled, NULL);
  if (fits_tensor_cores(device, &scaled)) {
    ProductStatus status = run_on_tensor_cores(device, &scaled);
    if (status != PRODUCT_UNSUPPORTED) return status == PRODUCT_DONE;
  }
  return run_in_bf16(device, &scaled);
}
