/* Products of codes on FP8 tensor cores: cuBLASLt multiplies, scales, biases and rounds. It takes k of
 * multiples of 16 and n of multiples of 8; others are copied with zeros around them, which costs less than the same
 * product in 16 bits. */
#include "cuda/scaled_matmul/codes.h"

enum { SIDE = 16, OUT_SIDE = 8 };

/* A product as the cores take it, and what it needs beside the tensors. */
typedef struct Prepared {
  CublasProduct product;
  Tensor a, b, scale_a, scale_b, bias, out;
} Prepared;

static int64_t padded(int64_t size, int64_t side) { return divide_up(size, side) * side; }

/* FP8 tensor cores of compute capability 9.0 keep about 14 bits of a running sum (relative errors near 7e-5), enough
 * for a 16-bit result only. */
static bool have_cores(const CudaDevice *device, const CodesProduct *scaled) {
  if ((scaled->out->dtype == DTYPE_F32 && !scaled->adds) || device->capability < 89) return false;
  if (scaled->a.codes->dtype == DTYPE_E5M2 && scaled->b.codes->dtype == DTYPE_E5M2) return false;
  if (!scaled->by_runs) return true;
  return device->capability == 90 && scaled->m % SIDE == 0 && scaled->n % SIDE == 0 && scaled->k % SIDE == 0;
}

/* --- scales --- */

static ProductScales scales_of(const CodesProduct *scaled, const CodesSide *side) {
  bool squares = side->grid.rows_each > 1 && (side == &scaled->b || scaled->b.grid.rows_each == 1);
  if (scaled->by_runs) return squares ? SCALES_SQUARES : SCALES_RUNS;
  return scaled->a.grid.row_step > 0 || scaled->b.grid.row_step > 0 ? SCALES_VECTOR : SCALES_ONE;
}

/* The scales of a side in the order of ProductOperand, `job` where they are copied for that; false with an error. */
static bool order_scales(CudaDevice *device, const CodesSide *side, int64_t elements, int64_t padded_elements,
                         int64_t k, ProductOperand *operand, Tensor *copy, ArrangeJob *job, int *jobs) {
  enum { WORDS = 4 };
  const ScaleGrid *grid = &side->grid;
  bool squares = operand->scales == SCALES_SQUARES;
  int64_t runs = operand->scales == SCALES_VECTOR ? 1 : scale_runs(k), pitch = divide_up(runs, WORDS) * WORDS;
  ArrangeJob wanted = {.from = side->scale,
                       .grid = *grid,
                       .rows_each = squares ? SCALE_RUN : 1,
                       .rows = squares ? scale_runs(elements) : elements,
                       .padded_rows = squares ? scale_runs(elements) : padded_elements,
                       .runs = runs,
                       .row_step = squares ? pitch : 1,
                       .run_step = squares ? 1 : padded_elements};
  operand->scale = side->scale;
  if (operand->scales == SCALES_ONE) return true;
  bool fits = grid->rows_each == wanted.rows_each && (wanted.rows == 1 || grid->row_step == wanted.row_step) &&
              (runs == 1 || grid->run_step == wanted.run_step) && wanted.rows == wanted.padded_rows;
  if (fits && is_aligned(side->scale, SIDE)) return true;
  int64_t count = squares ? wanted.rows * pitch : padded_elements * runs;
  if (!cuda_scratch(copy, device, count * (int64_t)sizeof(float))) return false;
  operand->scale = wanted.to = tensor_data(copy);
  job[(*jobs)++] = wanted;
  return true;
}

static bool prepare_scales(CudaDevice *device, const CodesProduct *scaled, Prepared *prepared) {
  CublasProduct *product = &prepared->product;
  ArrangeJob job[ARRANGE_JOBS_MOST];
  int jobs = 0;
  product->a.scales = scales_of(scaled, &scaled->a);
  product->b.scales = scales_of(scaled, &scaled->b);
  return order_scales(device, &scaled->a, scaled->m, product->m, scaled->k, &product->a, &prepared->scale_a, job,
                      &jobs) &&
         order_scales(device, &scaled->b, scaled->n, product->n, scaled->k, &product->b, &prepared->scale_b, job,
                      &jobs) &&
         (jobs == 0 || cuda_launched(device, launch_arrange_scales(device->launch, job, jobs), "scale kernel"));
}

/* --- zeros around operands --- */

/* Rows of `bytes` as more and longer ones, where they are not as they should be; *data is where they are then. */
static bool pad_rows(CudaDevice *device, PadJob wanted, const void **data, Tensor *copy, PadJob *job, int *jobs) {
  if (wanted.rows == wanted.padded_rows && wanted.bytes == wanted.padded_bytes && is_aligned(*data, SIDE)) return true;
  if (!cuda_scratch(copy, device, wanted.padded_rows * wanted.padded_bytes)) return false;
  wanted.from = *data;
  *data = wanted.to = tensor_data(copy);
  job[(*jobs)++] = wanted;
  return true;
}

static bool prepare_operands(CudaDevice *device, const CodesProduct *scaled, Prepared *prepared) {
  CublasProduct *product = &prepared->product;
  PadJob job[PAD_JOBS_MOST];
  int jobs = 0;
  int64_t element = dtype_size(scaled->out->dtype), m = scaled->m, n = scaled->n, k = scaled->k;
  product->n = padded(n, OUT_SIDE);
  product->k = product->a.leading = product->b.leading = padded(k, SIDE);
  product->bias = scaled->bias;
  PadJob a = {.rows = m, .bytes = k, .padded_rows = m, .padded_bytes = product->k};
  PadJob b = {.rows = n, .bytes = k, .padded_rows = product->n, .padded_bytes = product->k};
  PadJob bias = {.rows = 1, .bytes = n * element, .padded_rows = 1, .padded_bytes = product->n * element};
  return pad_rows(device, a, &product->a.data, &prepared->a, job, &jobs) &&
         pad_rows(device, b, &product->b.data, &prepared->b, job, &jobs) &&
         (!scaled->bias || pad_rows(device, bias, &product->bias, &prepared->bias, job, &jobs)) &&
         (jobs == 0 || cuda_launched(device, launch_pad(device->launch, job, jobs), "pad kernel"));
}

/* Where the cores write, if not where the result belongs. */
static bool prepare_output(CudaDevice *device, const CodesProduct *scaled, Prepared *prepared) {
  CublasProduct *product = &prepared->product;
  if (product->n == scaled->n && is_aligned(product->out, SIDE)) return true;
  if (!cuda_scratch(&prepared->out, device, product->m * product->n * dtype_size(product->out_dtype))) return false;
  product->out = tensor_data(&prepared->out);
  return true;
}

/* Whether the cores write where the result belongs. */
static bool adds_in_place(const CodesProduct *scaled) {
  return scaled->n % OUT_SIDE == 0 && is_aligned(tensor_data(scaled->out), SIDE);
}

static bool copy_output(const CodesProduct *scaled, const Prepared *prepared) {
  if (!prepared->out.storage) return true;
  Tensor inside = prepared->out;
  inside.dtype = scaled->out->dtype;
  inside.rank = 2;
  inside.size[0] = scaled->m;
  inside.size[1] = scaled->n;
  inside.stride[0] = prepared->product.n;
  inside.stride[1] = 1;
  return cuda_copy(scaled->out, &inside, false);
}

/* --- the product --- */

/* Whether it is faster to multiply without scales, which cuBLASLt may do in parts of k, and to scale the sums then. With
 * vectors of scales it has one algorithm, of tiles of 128 × 128, that leaves multiprocessors idle where they are few. */
static bool should_split(const CudaDevice *device, const CublasProduct *product) {
  enum { TILE = 128, LONG = 8192 };
  int64_t tiles = divide_up(product->m, (int64_t)TILE) * divide_up(product->n, (int64_t)TILE);
  int64_t places = divide_up(tiles, (int64_t)device->launch.multiprocessors) * device->launch.multiprocessors;
  return product->a.scales == SCALES_VECTOR && product->k >= LONG && tiles * 4 < places * 3;
}

/* The sums alone, in float32, then scaled, biased and rounded by a kernel; only where nothing is padded. */
static ProductStatus run_sums(CudaDevice *device, const CodesProduct *scaled, CublasProduct product) {
  Tensor sums = {0};
  if (!cuda_scratch(&sums, device, scaled->m * scaled->n * (int64_t)sizeof(float))) return PRODUCT_FAILED;
  product.a.scales = product.b.scales = SCALES_NONE;
  product.a.scale = product.b.scale = NULL;
  product.bias = NULL;
  product.fast = false;
  product.out = tensor_data(&sums);
  product.out_dtype = DTYPE_F32;
  ProductStatus status = product_run(device, &product);
  if (status == PRODUCT_DONE && !cuda_finish_codes(device, scaled, product.out)) status = PRODUCT_FAILED;
  tensor_release(&sums);
  return status;
}

ProductStatus cuda_codes_on_tensor_cores(CudaDevice *device, const CodesProduct *scaled) {
  if (!have_cores(device, scaled) || (scaled->adds && !adds_in_place(scaled))) return PRODUCT_UNSUPPORTED;
  Prepared prepared = {.product = codes_product(scaled, tensor_data(scaled->a.codes), tensor_data(scaled->b.codes))};
  prepared.product.fast = scaled->fast && !scaled->by_runs;
  prepared.product.adds = scaled->adds;
  ProductStatus status = PRODUCT_FAILED;
  if (prepare_operands(device, scaled, &prepared) && prepare_scales(device, scaled, &prepared) &&
      prepare_output(device, scaled, &prepared)) {
    bool plain =
        prepared.product.n == scaled->n && prepared.product.k == scaled->k && !scaled->by_runs && !scaled->adds;
    bool split = plain && should_split(device, &prepared.product);
    status = split ? PRODUCT_UNSUPPORTED : product_run(device, &prepared.product);
    if (status == PRODUCT_DONE && !copy_output(scaled, &prepared)) status = PRODUCT_FAILED;
    if (status == PRODUCT_UNSUPPORTED && plain) status = run_sums(device, scaled, prepared.product);
  }
  Tensor *scratch[] = {&prepared.a, &prepared.b, &prepared.scale_a, &prepared.scale_b, &prepared.bias, &prepared.out};
  for (size_t i = 0; i < sizeof scratch / sizeof scratch[0]; i++) tensor_release(scratch[i]);
  return status;
}
