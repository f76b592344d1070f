/* Products of float8 codes with scales: on FP8 tensor cores where the device allows it, else in bf16. */
#include "cuda/scaled_matmul/codes.h"

bool cuda_finish_codes(CudaDevice *device, const CodesProduct *scaled, const float *sums) {
  FinishPlan plan = {
      .out = tensor_data(scaled->out),
      .dtype = scaled->out->dtype,
      .product = sums,
      .rows = scaled->m,
      .columns = scaled->n,
      .bias = scaled->bias,
  };
  if (sums && !scaled->by_runs) {
    plan.scale_a = scaled->a.scale;
    plan.scale_b = scaled->b.scale;
    plan.row_step = (int)scaled->a.grid.row_step;
    plan.column_step = (int)scaled->b.grid.row_step;
  }
  return cuda_launched(device, launch_finish_product(device->launch, &plan), "scale kernel");
}

static CodesSide side_of(const Tensor *codes, const Tensor *scale) {
  return (CodesSide){.codes = codes, .scale = tensor_data(scale), .grid = scale_grid(scale, codes)};
}

/* Anything but one scale, or a vector of them. */
static bool has_runs(const CodesSide *side) {
  const ScaleGrid *grid = &side->grid;
  return grid->runs > 1 || grid->rows_each > 1 || grid->row_step > 1;
}

/* cuBLASLt's algorithms for it are Hopper's. */
bool cuda_scales_runs(int index) {
  const CudaDevice *device = cuda_device(index);
  return device && device->capability == 90;
}

static CodesProduct codes_of(Tensor *out, const ScaledProduct *product) {
  CodesProduct scaled = {
      .m = product->a->size[0],
      .n = product->b->size[0],
      .k = product->a->size[1],
      .a = side_of(product->a, product->scale_a),
      .b = side_of(product->b, product->scale_b),
      .out = out,
      .bias = product->bias ? tensor_data(product->bias) : NULL,
      .fast = product->fast,
  };
  scaled.by_runs = has_runs(&scaled.a) || has_runs(&scaled.b);
  return scaled;
}

bool cuda_scaled_matmul(Tensor *out, const ScaledProduct *product) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  CodesProduct scaled = codes_of(out, product);
  if (scaled.k == 0) return cuda_finish_codes(device, &scaled, NULL);
  ProductStatus status = cuda_codes_on_tensor_cores(device, &scaled);
  return status == PRODUCT_UNSUPPORTED ? cuda_codes_in_bf16(device, &scaled) : status == PRODUCT_DONE;
}

/* Elsewhere than on tensor cores in two steps. */
bool cuda_scaled_matmul_add(Tensor *out, const ScaledProduct *product) {
  if (tensor_count(out) == 0 || product->a->size[1] == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  CodesProduct scaled = codes_of(out, product);
  scaled.adds = true;
  ProductStatus status = cuda_codes_on_tensor_cores(device, &scaled);
  if (status != PRODUCT_UNSUPPORTED) return status == PRODUCT_DONE;
  Tensor result = {0};
  bool done = tensor_create_like(&result, out, DTYPE_F32) && cuda_scaled_matmul(&result, product) &&
              cuda_binary(BINARY_ADD, out, (Operand){.tensor = out}, (Operand){.tensor = &result});
  tensor_release(&result);
  return done;
}
