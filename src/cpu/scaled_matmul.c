/* Products of float8 codes with scales. */
#include "core/formats/scale_grid.h"
#include "cpu/convert.h"
#include "cpu/cpu.h"
#include "cpu/matmul/product.h"
#include "cpu/memory/memory.h"
#include "cpu/parallel.h"

/* One side of a product: codes (rows, k), and the same as bf16, which has more bits than both formats in exponent and
 * mantissa, or NULL. */
typedef struct Side {
  const Tensor *codes;
  uint16_t *wide;
  const float *scale;
  ScaleGrid grid;
} Side;

typedef struct ScaledRows {
  float *sums;  /* (m, n), of the run's terms */
  float *total; /* (m, n), of all runs up to this one */
  const Side *a, *b;
  const void *bias;
  void *out;
  DType dtype;
  int64_t columns, run;
  bool first, last; /* of the runs */
} ScaledRows;

/* The scales of b for columns `start` and on in this run; NULL where they are all the first. */
static const float *column_scales(const ScaledRows *job, int64_t start, int n, float *buffer) {
  const ScaleGrid *grid = &job->b->grid;
  const float *scale = job->b->scale + job->run * grid->run_step;
  buffer[0] = scale[0];
  if (grid->row_step == 0) return NULL;
  if (grid->rows_each == 1 && grid->row_step == 1) return scale + start;
  for (int i = 0; i < n; i++) buffer[i] = scale[(start + i) / grid->rows_each * grid->row_step];
  return buffer;
}

static void scale_rows(int64_t begin, int64_t end, const void *context) {
  const ScaledRows *job = context;
  const ScaleGrid *grid = &job->a->grid;
  float values[CHUNK], bias_buffer[CHUNK], scale_buffer[CHUNK];
  for (int64_t row = begin; row < end; row++) {
    float scale_a = job->a->scale[row / grid->rows_each * grid->row_step + job->run * grid->run_step];
    for (int64_t start = 0; start < job->columns; start += CHUNK) {
      int n = chunk_length(job->columns, start);
      int64_t at = row * job->columns + start;
      const float *sums = job->sums + at, *scale_b = column_scales(job, start, n, scale_buffer);
      for (int i = 0; i < n; i++) values[i] = sums[i] * scale_a * (scale_b ? scale_b[i] : scale_buffer[0]);
      if (!job->first) {
        for (int i = 0; i < n; i++) values[i] += job->total[at + i];
      }
      if (!job->last) {
        for (int i = 0; i < n; i++) job->total[at + i] = values[i];
        continue;
      }
      if (job->bias) {
        const float *bias = load_floats(job->dtype, job->bias, start, n, bias_buffer);
        for (int i = 0; i < n; i++) values[i] += bias[i];
      }
      store_floats(job->dtype, job->out, at, n, values);
    }
  }
}

/* Columns `first` and on, `count` of them, of codes or of what they were widened to. */
static Matrix matrix_of(const Side *side, bool wide, int64_t first, int64_t count, bool transposed) {
  int64_t rows = side->codes->size[0], k = side->codes->size[1];
  const char *data = wide ? (const char *)side->wide : tensor_data(side->codes);
  DType dtype = wide ? DTYPE_BF16 : side->codes->dtype;
  if (count > 0) data += first * dtype_size(dtype);
  return (Matrix){.data = data,
                  .dtype = dtype,
                  .batch = 1,
                  .rows = transposed ? count : rows,
                  .columns = transposed ? rows : count,
                  .stride = k > 0 ? k : 1,
                  .transposed = transposed};
}

/* sums (m, n) = a · bᵀ over some of k. */
static bool multiply_codes(float *sums, const Side *a, const Side *b, int64_t first, int64_t count) {
  if (count > 0) {
    Product wide = product_of(matrix_of(a, true, first, count, false), matrix_of(b, true, first, count, true), sums,
                              DTYPE_F32, NULL);
    ProductResult result = product_dnnl(&wide);
    if (result != PRODUCT_UNSUPPORTED) return result == PRODUCT_DONE;
  }
  Product narrow = product_of(matrix_of(a, false, first, count, false), matrix_of(b, false, first, count, true), sums,
                              DTYPE_F32, NULL);
  return product_widened(&narrow);
}

static bool open_side(Side *side, const Tensor *codes, const Tensor *scale) {
  *side = (Side){.codes = codes, .scale = tensor_data(scale), .grid = scale_grid(scale, codes)};
  side->wide = scratch_allocate((size_t)tensor_count(codes) * sizeof(uint16_t));
  if (side->wide) convert_all(DTYPE_BF16, side->wide, codes->dtype, tensor_data(codes), tensor_count(codes));
  return side->wide != NULL;
}

static void close_side(Side *side) {
  if (side->codes) scratch_release(side->wide, (size_t)tensor_count(side->codes) * sizeof(uint16_t));
}

/* Sums are float32 here, `fast` or not. */
bool cpu_scaled_matmul(Tensor *out, const ScaledProduct *product) {
  int64_t rows = product->a->size[0], columns = product->b->size[0], k = product->a->size[1];
  if (rows == 0 || columns == 0) return true;
  Side a, b = {0};
  bool done = open_side(&a, product->a, product->scale_a) && open_side(&b, product->b, product->scale_b);
  bool by_runs = a.grid.runs > 1 || (b.codes && b.grid.runs > 1);
  int64_t runs = by_runs ? scale_runs(k) : 1;
  /* An f32 out holds the total and, of a single run, the sums too. */
  bool in_place = out->dtype == DTYPE_F32, whole = runs == 1;
  size_t bytes = (size_t)(rows * columns) * sizeof(float);
  size_t sum_bytes = in_place && whole ? 0 : bytes, total_bytes = in_place || whole ? 0 : bytes;
  float *sums = scratch_allocate(sum_bytes), *total = scratch_allocate(total_bytes);
  done = done && sums && total;
  ScaledRows job = {.sums = sum_bytes > 0 ? sums : tensor_data(out),
                    .total = total_bytes > 0 ? total : tensor_data(out),
                    .a = &a,
                    .b = &b,
                    .bias = product->bias ? tensor_data(product->bias) : NULL,
                    .out = tensor_data(out),
                    .dtype = out->dtype,
                    .columns = columns};
  for (job.run = 0; done && job.run < runs; job.run++) {
    int64_t first = job.run * SCALE_RUN, rest = k - first;
    job.first = job.run == 0;
    job.last = job.run == runs - 1;
    done = multiply_codes(job.sums, &a, &b, first, whole || rest < SCALE_RUN ? rest : SCALE_RUN);
    if (done) parallel_for(rows, columns, scale_rows, &job);
  }
  scratch_release(sums, sum_bytes);
  scratch_release(total, total_bytes);
  close_side(&a);
  close_side(&b);
  return done;
}
