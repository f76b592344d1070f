/* The largest magnitude and the column sums of a matrix: in one pass, and as notes. */
#include "cuda/measure.h"
#include "measure/strips.h"

bool cuda_measurable(const void *data, DType dtype, int64_t columns) {
  if (dtype != DTYPE_F32 && dtype != DTYPE_F16 && dtype != DTYPE_BF16) return false;
  enum { VECTOR = 16 };
  return is_aligned(data, VECTOR) && columns * dtype_size(dtype) % VECTOR == 0 && columns < INT32_MAX;
}

bool cuda_finish_sum(const CudaDevice *device, Tensor *sum, const float *partials, int64_t rows, int64_t width) {
  FinishSumPlan plan = {.partials = partials,
                        .rows = rows,
                        .width = width,
                        .columns = tensor_count(sum),
                        .out = tensor_data(sum),
                        .dtype = sum->dtype};
  return cuda_launched(device, launch_finish_sum(device->launch, &plan), "column sum kernel");
}

bool cuda_measure(const CudaDevice *device, const void *data, DType dtype, int64_t rows, int64_t columns, Tensor *sum,
                  Maxima *maxima) {
  MeasurePlan plan = {.x = data, .dtype = dtype, .rows = rows, .columns = columns, .summing = sum != NULL};
  if (sum && !maxima && rows <= MEASURE_FEW_ROWS) {
    return cuda_launched(device, launch_sum_few_rows(device->launch, &plan, tensor_data(sum), sum->dtype),
                         "column sum kernel");
  }
  if (sum && !maxima) {
    cudaError_t error = launch_sum_strips(device->launch, &plan, tensor_data(sum), sum->dtype);
    if (error != cudaErrorNotSupported) return cuda_launched(device, error, "column sum kernel");
  }
  measure_shape(&plan, device->launch.multiprocessors);
  Tensor partials = {0};
  if (maxima) {
    maxima->count = plan.strips * plan.row_groups;
    if (!cuda_scratch(&maxima->words, device, maxima->count * (int64_t)sizeof *plan.maxima)) return false;
    plan.maxima = tensor_data(&maxima->words);
  }
  if (sum) {
    if (!cuda_scratch(&partials, device, plan.row_groups * columns * (int64_t)sizeof *plan.partials)) return false;
    plan.partials = tensor_data(&partials);
  }
  bool done = cuda_launched(device, launch_measure(device->launch, &plan), "absmax kernel") &&
              (!sum || cuda_finish_sum(device, sum, plan.partials, plan.row_groups, columns));
  tensor_release(&partials);
  return done;
}

bool cuda_note_maxima(const CudaDevice *device, const Tensor *out, int count, uint32_t **words) {
  Tensor created = {0};
  *words = NULL;
  if (count == 0 || tensor_count(out) < cuda_least_noted) return true;
  if (!cuda_scratch(&created, device, count * (int64_t)sizeof **words)) return false;
  *words = tensor_data(&created);
  tensor_note(out, NOTE_MAXIMA, &created, 0);
  return true;
}

bool cuda_known_maxima(const Tensor *x, Maxima *maxima) {
  if (!tensor_noted(x, NOTE_MAXIMA, &maxima->words)) return false;
  maxima->count = (int)(tensor_count(&maxima->words) / (int64_t)sizeof(uint32_t));
  return true;
}

bool cuda_note_column_sums(const CudaDevice *device, const Tensor *out, int rows, float **sums) {
  Tensor created = {0};
  int64_t columns = out->size[out->rank - 1];
  *sums = NULL;
  if (rows == 0 || tensor_count(out) < cuda_least_noted) return true;
  if (!cuda_scratch(&created, device, rows * columns * (int64_t)sizeof **sums)) return false;
  *sums = tensor_data(&created);
  tensor_note(out, NOTE_COLUMN_SUMS, &created, columns);
  return true;
}

bool cuda_known_column_sums(const CudaDevice *device, Tensor *sum, const Tensor *x, bool *known) {
  Tensor sums = {0};
  *known = tensor_noted(x, NOTE_COLUMN_SUMS, &sums);
  if (!*known) return true;
  int64_t columns = x->size[x->rank - 1], rows = tensor_count(&sums) / (columns * (int64_t)sizeof(float));
  bool done = cuda_finish_sum(device, sum, tensor_data(&sums), rows, columns);
  tensor_release(&sums);
  return done;
}
