/* Products of float8 codes with scales. */
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/matmul/product.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

typedef struct ScaledRows {
  const float *sums; /* (m, n) */
  const float *scale_a, *scale_b;
  const void *bias;
  void *out;
  DType dtype;
  int64_t columns;
  bool row_scales, column_scales; /* otherwise one for all */
} ScaledRows;

static void scale_rows(int64_t begin, int64_t end, const void *context) {
  const ScaledRows *job = context;
  float values[CHUNK], bias_buffer[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    float scale_a = job->scale_a[job->row_scales ? row : 0];
    for (int64_t start = 0; start < job->columns; start += CHUNK) {
      int n = chunk_length(job->columns, start);
      const float *sums = job->sums + row * job->columns + start;
      const float *scale_b = job->column_scales ? job->scale_b + start : NULL;
      for (int i = 0; i < n; i++) values[i] = sums[i] * scale_a * (scale_b ? scale_b[i] : job->scale_b[0]);
      if (job->bias) {
        const float *bias = load_floats(job->dtype, job->bias, start, n, bias_buffer);
        for (int i = 0; i < n; i++) values[i] += bias[i];
      }
      store_floats(job->dtype, job->out, row * job->columns + start, n, values);
    }
  }
}

/* sums (m, n) = a · bᵀ for bf16 or float8 data. */
static Product product_of_codes(const void *a, const void *b, const Tensor *a_codes, const Tensor *b_codes,
                                float *sums) {
  int64_t m = a_codes->size[0], n = b_codes->size[0], k = a_codes->size[1];
  int64_t stride = k > 0 ? k : 1;
  bool converted = a != tensor_data(a_codes);
  Matrix left = {a, converted ? DTYPE_BF16 : a_codes->dtype, 1, m, k, stride, 0, false};
  Matrix right = {b, converted ? DTYPE_BF16 : b_codes->dtype, 1, k, n, stride, 0, true};
  return (Product){.a = left, .b = right, .out = sums, .out_dtype = DTYPE_F32};
}

static bool multiply_codes(float *sums, const Tensor *a, const Tensor *b) {
  Product narrow = product_of_codes(tensor_data(a), tensor_data(b), a, b, sums);
  if (a->size[1] == 0) return product_widened(&narrow);
  size_t a_bytes = (size_t)tensor_count(a) * sizeof(uint16_t), b_bytes = (size_t)tensor_count(b) * sizeof(uint16_t);
  uint16_t *a_data = scratch_allocate(a_bytes), *b_data = scratch_allocate(b_bytes);
  ProductResult result = PRODUCT_FAILED;
  if (a_data && b_data) {
    /* Exact: bf16 has more bits than both formats in exponent and mantissa. */
    convert_all(DTYPE_BF16, a_data, a->dtype, tensor_data(a), tensor_count(a));
    convert_all(DTYPE_BF16, b_data, b->dtype, tensor_data(b), tensor_count(b));
    Product wide = product_of_codes(a_data, b_data, a, b, sums);
    result = product_dnnl(&wide);
  }
  scratch_release(a_data, a_bytes);
  scratch_release(b_data, b_bytes);
  return result == PRODUCT_UNSUPPORTED ? product_widened(&narrow) : result == PRODUCT_DONE;
}

/* Sums are float32 here, `fast` or not. */
bool cpu_scaled_matmul(Tensor *out, const ScaledProduct *product) {
  const Tensor *a = product->a, *b = product->b, *bias = product->bias;
  int64_t rows = a->size[0], columns = b->size[0];
  if (rows == 0 || columns == 0) return true;
  size_t bytes = out->dtype == DTYPE_F32 ? 0 : (size_t)(rows * columns) * sizeof(float);
  float *scratch = scratch_allocate(bytes);
  if (!scratch) return false;
  float *sums = bytes > 0 ? scratch : tensor_data(out);
  bool done = multiply_codes(sums, a, b);
  if (done) {
    ScaledRows job = {.sums = sums,
                      .scale_a = tensor_data(product->scale_a),
                      .scale_b = tensor_data(product->scale_b),
                      .bias = bias ? tensor_data(bias) : NULL,
                      .out = tensor_data(out),
                      .dtype = out->dtype,
                      .columns = columns,
                      .row_scales = tensor_count(product->scale_a) > 1,
                      .column_scales = tensor_count(product->scale_b) > 1};
    parallel_for(rows, columns, scale_rows, &job);
  }
  scratch_release(scratch, bytes);
  return done;
}
