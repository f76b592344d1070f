/* Products of float32, f16 and bf16 matrices. */
#include "cuda/matmul/product.h"

/* The last two dimensions of a tensor, and the one before as batch if there is one. */
static ProductOperand operand_of(const Tensor *tensor) {
  int last = tensor->rank - 1;
  const int64_t *size = tensor->size, *stride = tensor->stride;
  bool rows = stride[last] == 1 && (stride[last - 1] >= size[last] || size[last - 1] == 1);
  return (ProductOperand){
      .data = tensor_data(tensor),
      .dtype = tensor->dtype,
      .transposed = !rows,
      .leading = rows ? stride[last - 1] : stride[last],
      .batch = tensor->rank > 2 ? stride[last - 2] : 0,
  };
}

static bool finish(const CudaDevice *device, const CublasProduct *product, void *out, DType dtype, const float *sums,
                   const void *bias) {
  FinishPlan plan = {
      .out = out,
      .dtype = dtype,
      .product = sums,
      .rows = product->batch * product->m,
      .columns = product->n,
      .bias = bias,
  };
  return cuda_launched(device, launch_finish_product(device->launch, &plan), "bias kernel");
}

/* Where cuBLASLt takes no bias: the sums in float32, then biased and rounded. */
static ProductStatus run_without_bias(CudaDevice *device, CublasProduct product) {
  void *out = product.out;
  const void *bias = product.bias;
  DType dtype = product.out_dtype;
  Tensor sums = {0};
  if (dtype != DTYPE_F32) {
    if (!cuda_scratch(&sums, device, product.batch * product.m * product.n * (int64_t)sizeof(float)))
      return PRODUCT_FAILED;
    product.out = tensor_data(&sums);
    product.out_dtype = DTYPE_F32;
  }
  product.bias = NULL;
  ProductStatus status = product_run(device, &product);
  if (status == PRODUCT_DONE && !finish(device, &product, out, dtype, product.out, bias)) status = PRODUCT_FAILED;
  tensor_release(&sums);
  return status;
}

/* Whether the product alone and then the bias is faster. cuBLASLt does not split k where there is a bias
 * (product_plan.c): of few tiles whose rows begin anywhere, 77 × 1000 × 333 for one, that takes three times as long. */
static bool is_faster_without_bias(const CublasProduct *product) {
  enum { TILE = 128, FEW = 32, LONG = 256, ALIGNED = 8 };
  if (!product->bias || product->out_dtype == DTYPE_F32 || product->a.dtype == DTYPE_F32) return false;
  bool odd = product->a.leading % ALIGNED != 0 || product->b.leading % ALIGNED != 0 || product->n % ALIGNED != 0;
  int64_t tiles = product->batch * divide_up(product->m, (int64_t)TILE) * divide_up(product->n, (int64_t)TILE);
  return odd && tiles <= FEW && product->k >= LONG;
}

static TriangleOperand triangle_operand(const Tensor *x) {
  return (TriangleOperand){tensor_data(x), x->dtype, x->stride[0], x->stride[1], x->stride[2]};
}

bool cuda_mend_triangle(Tensor *out, const Tensor *a, const Tensor *b, bool lower) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  TrianglePlan plan = {
      .out = tensor_data(out),
      .dtype = out->dtype,
      .a = triangle_operand(a),
      .b = triangle_operand(b),
      .batch = a->size[0],
      .rows = a->size[1],
      .inner = a->size[2],
      .columns = b->size[2],
      .lower = lower,
  };
  return cuda_launched(device, launch_mend_triangle(device->launch, &plan), "triangle kernel");
}

static CublasProduct product_of(Tensor *out, const Tensor *a, const Tensor *b) {
  return (CublasProduct){
      .m = a->size[a->rank - 2],
      .n = b->size[b->rank - 1],
      .k = a->size[a->rank - 1],
      .batch = out->rank > 2 ? out->size[0] : 1,
      .a = operand_of(a),
      .b = operand_of(b),
      .out = tensor_data(out),
      .out_dtype = out->dtype,
  };
}

static bool is_done(ProductStatus status, const CublasProduct *product) {
  if (status == PRODUCT_UNSUPPORTED) {
    return error_set("cublasLtMatmul: no algorithm for a product of (%lld, %lld, %lld) by (%lld, %lld, %lld)",
                     (long long)product->batch, (long long)product->m, (long long)product->k, (long long)product->batch,
                     (long long)product->k, (long long)product->n);
  }
  return status == PRODUCT_DONE;
}

bool cuda_matmul(Tensor *out, const Tensor *a, const Tensor *b, const Tensor *bias) {
  if (tensor_count(out) == 0) return true;
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  CublasProduct product = product_of(out, a, b);
  product.bias = bias ? tensor_data(bias) : NULL;
  if (product.k == 0) return finish(device, &product, product.out, out->dtype, NULL, product.bias);
  bool alone = is_faster_without_bias(&product);
  ProductStatus status = alone ? PRODUCT_UNSUPPORTED : product_run(device, &product);
  if (status == PRODUCT_UNSUPPORTED && product.bias) status = run_without_bias(device, product);
  return is_done(status, &product);
}

bool cuda_matmul_add(Tensor *out, const Tensor *a, const Tensor *b) {
  CudaDevice *device = cuda_tensor_device(out);
  if (!device) return false;
  CublasProduct product = product_of(out, a, b);
  product.adds = true;
  return is_done(product_run(device, &product), &product);
}
