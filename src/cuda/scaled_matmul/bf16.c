/* Products of codes in bf16: all of k at once, or 128 terms at a time where those have scales of their own. */
#include "cuda/scaled_matmul/codes.h"

static bool widen(const CudaDevice *device, const Tensor *codes, Tensor *wide) {
  int64_t count = tensor_count(codes);
  return cuda_scratch(wide, device, count * (int64_t)sizeof(uint16_t)) &&
         cuda_launched(device,
                       launch_widen_codes(device->launch, tensor_data(wide), tensor_data(codes), codes->dtype, count),
                       "widen kernel");
}

/* sums (m, n) of `count` terms from `first` on. */
static ProductStatus multiply(CudaDevice *device, const CodesProduct *scaled, const Tensor *a, const Tensor *b,
                              int64_t first, int64_t count, float *sums) {
  CublasProduct product = codes_product(scaled, (uint16_t *)tensor_data(a) + first, (uint16_t *)tensor_data(b) + first);
  product.a.dtype = product.b.dtype = DTYPE_BF16;
  product.k = count;
  product.out = sums;
  product.out_dtype = DTYPE_F32;
  return product_run(device, &product);
}

/* total (m, n) = the scaled sums of all runs. */
static ProductStatus add_runs(CudaDevice *device, const CodesProduct *scaled, const Tensor *a, const Tensor *b,
                              float *total) {
  AddRunPlan plan = {.total = total,
                     .rows = scaled->m,
                     .columns = scaled->n,
                     .scale_a = scaled->a.scale,
                     .scale_b = scaled->b.scale,
                     .grid_a = scaled->a.grid,
                     .grid_b = scaled->b.grid};
  Tensor sums = {0};
  if (!cuda_scratch(&sums, device, scaled->m * scaled->n * (int64_t)sizeof(float))) return PRODUCT_FAILED;
  ProductStatus status = PRODUCT_DONE;
  for (; status == PRODUCT_DONE && plan.run < scale_runs(scaled->k); plan.run++) {
    int64_t first = plan.run * SCALE_RUN, rest = scaled->k - first;
    plan.sums = tensor_data(&sums);
    status = multiply(device, scaled, a, b, first, rest < SCALE_RUN ? rest : SCALE_RUN, tensor_data(&sums));
    if (status == PRODUCT_DONE && !cuda_launched(device, launch_add_run(device->launch, &plan), "scale kernel"))
      status = PRODUCT_FAILED;
  }
  tensor_release(&sums);
  return status;
}

bool cuda_codes_in_bf16(CudaDevice *device, const CodesProduct *scaled) {
  Tensor a = {0}, b = {0}, scratch = {0};
  bool in_place = scaled->out->dtype == DTYPE_F32;
  ProductStatus status = PRODUCT_FAILED;
  if (widen(device, scaled->a.codes, &a) && widen(device, scaled->b.codes, &b) &&
      (in_place || cuda_scratch(&scratch, device, scaled->m * scaled->n * (int64_t)sizeof(float)))) {
    float *sums = tensor_data(in_place ? scaled->out : &scratch);
    status =
        scaled->by_runs ? add_runs(device, scaled, &a, &b, sums) : multiply(device, scaled, &a, &b, 0, scaled->k, sums);
    if (status == PRODUCT_DONE && !cuda_finish_codes(device, scaled, sums)) status = PRODUCT_FAILED;
  }
  tensor_release(&a);
  tensor_release(&b);
  tensor_release(&scratch);
  if (status == PRODUCT_UNSUPPORTED) {
    return error_set("cublasLtMatmul: no algorithm for a product of (%lld, %lld) by (%lld, %lld)", (long long)scaled->m,
                     (long long)scaled->k, (long long)scaled->k, (long long)scaled->n);
  }
  return status == PRODUCT_DONE;
}
