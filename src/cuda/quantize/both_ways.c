/* Quantization along both sides of a matrix at once. */
#include "quantize/both_ways/both_ways.h"
#include "cuda/measure.h"

/* What has a scale is a run of a patch's length, or a whole row or column. */
static bool by_runs(const BothWaysRule *rule) {
  return rule->row_run == BOTH_WAYS_SIDE && rule->column_run == BOTH_WAYS_SIDE;
}

bool cuda_quantizes_both_ways(const Tensor *x, const BothWaysRule *rule) {
  enum { SIDE = 16 };
  int64_t columns = x->size[x->rank - 1], rows = tensor_count(x) / columns;
  bool whole = !rule->squares && rule->row_run == columns && rule->column_run == rows;
  return (whole || by_runs(rule)) && rows % SIDE == 0 && columns % SIDE == 0 && is_aligned(tensor_data(x), SIDE);
}

/* With the scales of whole rows and columns, whose largest magnitudes take room in `words`. */
static bool quantize_whole(CudaDevice *device, BothWaysPlan *plan, Tensor *words) {
  bool at_once = both_ways_at_once(plan, device->launch.multiprocessors);
  int64_t across = at_once ? divide_up(plan->columns, (int64_t)BOTH_WAYS_SIDE) : 1;
  int64_t down = at_once ? divide_up(plan->rows, (int64_t)BOTH_WAYS_SIDE) : 1;
  int64_t bytes = (across * plan->rows + down * plan->columns) * (int64_t)sizeof(uint32_t);
  if (!cuda_scratch(words, device, bytes)) return false;
  plan->row_magnitudes = tensor_data(words);
  plan->column_magnitudes = plan->row_magnitudes + across * plan->rows;
  if (at_once) {
    return cuda_launched(device, launch_quantize_both_ways_at_once(device->launch, plan), "quantize kernel");
  }
  return cuda_check(cudaMemsetAsync(plan->row_magnitudes, 0, (size_t)bytes, device->launch.stream),
                    "cudaMemsetAsync") &&
         cuda_launched(device, launch_measure_both_ways(device->launch, plan), "absmax kernel") &&
         cuda_launched(device, launch_quantize_both_ways(device->launch, plan), "quantize kernel");
}

static bool quantize_runs(const CudaDevice *device, const BothWaysPlan *plan) {
  return cuda_launched(device, launch_quantize_both_ways(device->launch, plan), "quantize kernel");
}

static bool quantize_squares(const CudaDevice *device, const BothWays *outputs, const BothWaysPlan *plan) {
  SquaresPlan squares = {
      .both = *plan, .row_pitch = outputs->scale->stride[0], .column_pitch = outputs->transposed_scale->stride[0]};
  return cuda_launched(device, launch_quantize_squares(device->launch, &squares), "quantize kernel");
}

/* Sums of squares' columns are made by themselves. */
static bool sum_columns(const BothWays *outputs, const Tensor *x) {
  if (!outputs->column_sum) return true;
  Tensor columns = tensor_as_transposed_matrix(x);
  return cuda_reduce(REDUCE_SUM, 0, outputs->column_sum, &columns);
}

bool cuda_quantize_both_ways(const BothWays *outputs, const Tensor *x, const BothWaysRule *rule) {
  CudaDevice *device = cuda_tensor_device(x);
  if (!device) return false;
  BothWaysPlan plan = {
      .x = tensor_data(x),
      .dtype = x->dtype,
      .format = rule->format,
      .columns = x->size[x->rank - 1],
      .codes = tensor_data(outputs->codes),
      .transposed = tensor_data(outputs->transposed),
      .row_rounding = rule->row_rounding,
      .column_rounding = rule->column_rounding,
      .row_scale = tensor_data(outputs->scale),
      .column_scale = tensor_data(outputs->transposed_scale),
  };
  plan.rows = tensor_count(x) / plan.columns;
  if (rule->squares) return sum_columns(outputs, x) && quantize_squares(device, outputs, &plan);
  int64_t sums = divide_up(plan.rows, (int64_t)BOTH_WAYS_SIDE);
  Tensor partials = {0}, words = {0};
  bool done =
      !outputs->column_sum || cuda_scratch(&partials, device, sums * plan.columns * (int64_t)sizeof *plan.partials);
  if (done && outputs->column_sum) plan.partials = tensor_data(&partials);
  done = done && (by_runs(rule) ? quantize_runs(device, &plan) : quantize_whole(device, &plan, &words)) &&
         (!outputs->column_sum || cuda_finish_sum(device, outputs->column_sum, plan.partials, sums, plan.columns));
  tensor_release(&partials);
  tensor_release(&words);
  return done;
}
